package recovery

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// RunningServer tells whether a server runs on a data directory. It reads
// postmaster.pid (the lines of pidfile.h) and looks whether its process is
// alive. After a crash of the machine a stale file can name a process of
// another program: the answer is then wrongly yes, never wrongly no.
func RunningServer(directory string) (*Server, bool) {
	s, err := readPidFile(filepath.Join(directory, "postmaster.pid"))
	if err != nil {
		return nil, false
	}
	return s, processAlive(s.PID)
}

// readPidFile reads postmaster.pid: pid, data directory, start time, port,
// socket directory, address, shared memory key, status. The later lines appear
// one by one as the server starts.
func readPidFile(path string) (*Server, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	lines := strings.Split(string(b), "\n")
	line := func(n int) string {
		if n < len(lines) {
			return strings.TrimSpace(lines[n])
		}
		return ""
	}
	pid, err := strconv.Atoi(line(0))
	if err != nil || pid == 0 {
		return nil, errors.New("no process id in " + path)
	}
	if pid < 0 {
		pid = -pid // a stand-alone backend
	}
	s := &Server{PID: pid, SocketDirectory: line(4), ListenAddress: line(5), Status: line(7)}
	s.Port, _ = strconv.Atoi(line(3))
	return s, nil
}
