package control

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

const (
	attempts = 10
	pause    = 10 * time.Millisecond
)

// Read reads the control file at path.
//
// The server overwrites its control file in place, so a read beside a running
// server can see half of a write. A file that fails its checksum is therefore
// read again, up to ten times, until the same bytes come twice: then it is
// damaged, and the error wraps ErrChecksum. PostgreSQL's own tools do the same
// (get_controlfile in src/common/controldata_utils.c).
func Read(path string) (File, error) {
	var last []byte
	for n := 1; ; n++ {
		b, err := readOnce(path)
		if err != nil {
			return File{}, fmt.Errorf("read control file: %w", err)
		}
		f, err := Parse(b)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, ErrChecksum) || n == attempts || bytes.Equal(b, last) {
			return File{}, fmt.Errorf("read %s: %w", path, err)
		}
		last = b
		time.Sleep(pause)
	}
}

// ReadDirectory reads the control file of a data directory.
func ReadDirectory(dataDirectory string) (File, error) {
	return Read(filepath.Join(dataDirectory, "global", "pg_control"))
}

func readOnce(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, FileSize))
}
