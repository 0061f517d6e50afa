package scratch

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// endProcesses ends what still runs in the directory: a server that was just being
// started when its walden was killed has no socket yet at which it could be told to
// stop. Servers, their children and restore_command work in their data directory.
func endProcesses(dir string) {
	for _, signal := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGKILL, syscall.SIGKILL} {
		pids := processesIn(dir)
		if len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, signal) // it may have ended
		}
		for end := time.Now().Add(3 * time.Second); time.Now().Before(end) && len(processesIn(dir)) > 0; {
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// processesIn are the processes, but this one, whose working directory is dir or lies below it. Those
// with a terminal are left out: a person may have gone there to look.
func processesIn(dir string) []int {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil
	}
	links, _ := filepath.Glob("/proc/[0-9]*/cwd") // its only error is that of the pattern
	var pids []int
	for _, link := range links {
		at, err := os.Readlink(link)
		if err != nil || at != real && !strings.HasPrefix(at, real+"/") {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link)))
		if err == nil && pid != os.Getpid() && !hasTerminal(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// hasTerminal reads the terminal's number from /proc/PID/stat, where it is the fifth field behind the
// program's name, which stands in parentheses.
func hasTerminal(pid int) bool {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return false // it has ended
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	return len(fields) > 4 && fields[4] != "0"
}
