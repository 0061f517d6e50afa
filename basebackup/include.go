package basebackup

import (
	"regexp"
	"strings"
)

// Inclusion says what an Include names.
type Inclusion int

const (
	// IncludeFile is a file that must exist, or the server does not start.
	IncludeFile Inclusion = iota
	// IncludeIfExists is a file that may be missing.
	IncludeIfExists
	// IncludeDirectory is a directory that must exist; it may be empty.
	IncludeDirectory
)

// Include is a reference from one configuration file to others.
type Include struct {
	Kind Inclusion
	// Path is absolute, or relative to the directory of the file it stands in.
	Path string
}

var inclusions = map[string]Inclusion{"include": IncludeFile, "include_if_exists": IncludeIfExists, "include_dir": IncludeDirectory}

// Includes finds the include directives of postgresql.conf (guc-file.l), of
// pg_hba.conf and pg_ident.conf (libpq/hba.c), and in the latter two also
// @file, a list of names, which counts as IncludeIfExists. The server's views
// of these files name only those files that set something, but it wants all.
func Includes(content []byte) []Include {
	var list []Include
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		end := strings.IndexFunc(line, func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') })
		if end > 0 {
			if kind, ok := inclusions[strings.ToLower(line[:end])]; ok {
				if name := includedName(line[end:]); name != "" {
					list = append(list, Include{kind, name})
				}
				continue
			}
		}
		for _, m := range listFile.FindAllStringSubmatch(line, -1) {
			if name := m[1] + m[2]; name != "" {
				list = append(list, Include{IncludeIfExists, name})
			}
		}
	}
	return list
}

// listFile passes over comments and quoted strings, and captures the name after
// an @ that begins a word.
var listFile = regexp.MustCompile(`#.*|(?:^|[\s,])@(?:"([^"]+)"|([^\s,"#']+))|"[^"]*"|'[^']*'`)

// includedName reads the value of an include directive.
func includedName(s string) string {
	s = strings.TrimLeft(s, " \t")
	s = strings.TrimLeft(strings.TrimPrefix(s, "="), " \t")
	if s == "" {
		return ""
	}
	quote := s[0]
	if quote != '\'' && quote != '"' {
		if i := strings.IndexAny(s, " \t#"); i >= 0 {
			s = s[:i]
		}
		return s
	}
	var name strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == quote && i+1 < len(s) && s[i+1] == quote, quote == '\'' && s[i] == '\\' && i+1 < len(s):
			i++
			name.WriteByte(s[i])
		case s[i] == quote:
			return name.String()
		default:
			name.WriteByte(s[i])
		}
	}
	return "" // the quote is not closed
}
