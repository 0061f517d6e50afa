//go:build unix

package recovery

import "path/filepath"

// asOwner is a shell line that runs a program as the server's user.
func (s *setup) asOwner(args ...string) string {
	if s.owner != nil && s.owner.name != "" {
		args = append([]string{"sudo", "-u", s.owner.name}, args...)
	}
	return ShellLine(args...)
}

// startCommand starts the server as its configuration says, without what was
// set only to watch it.
func (s *setup) startCommand() string {
	var options string
	for _, v := range s.needed {
		if options != "" {
			options += " "
		}
		options += "-c " + shellQuote(v.name+"="+v.value)
	}
	args := []string{filepath.Join(s.binDir, "pg_ctl"), "-D", s.directory, "-l", s.logPath}
	if options != "" {
		args = append(args, "-o", options)
	}
	return s.asOwner(append(args, "start")...)
}
