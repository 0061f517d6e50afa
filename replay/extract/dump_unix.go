//go:build unix

package extract

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/walden-pg/walden/replay/scratch"
)

// checkOutput refuses a place for the output at which something is, or could not be.
func (x *extraction) checkOutput() error {
	if x.Output == "" {
		return nil
	}
	var err error
	if x.Output, err = filepath.Abs(x.Output); err != nil {
		return fmt.Errorf("extract: %w", err)
	}
	if _, err := os.Lstat(x.Output); err == nil {
		return &OutputError{Path: x.Output, Reason: "it exists already"}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return &OutputError{Path: x.Output, Reason: "it cannot be made", Err: err}
	}
	dir := filepath.Dir(x.Output)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return &OutputError{Path: x.Output, Reason: "its parent is no directory", Err: err}
	}
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return &OutputError{Path: x.Output, Reason: "it cannot be made", Err: err}
	}
	return nil
}

// dump runs pg_dump on what was asked for.
func (x *extraction) dump(ctx context.Context) error {
	began := time.Now()
	d, role, err := x.locate(ctx)
	if err != nil {
		return err
	}
	x.result.Database = d
	if err := x.releaseLocks(ctx, d.Name, role); err != nil {
		return err
	}
	selected, warnings, err := x.survey(ctx, d, role)
	if err != nil {
		return err
	}
	if x.leftOut {
		if err := x.guard(ctx, d, role, selected); err != nil {
			return err
		}
	}
	x.result.Warnings = append(x.result.Warnings, warnings...)
	x.report(Dumping, 0, 0)
	switch {
	case x.Output == "":
		err = x.pgDump(ctx, d.Name, role, x.Stdout, "")
	case x.Format == Directory:
		err = x.dumpDirectory(ctx, d.Name, role)
	default:
		err = x.dumpFile(ctx, d.Name, role)
	}
	x.result.Dump = time.Since(began)
	return err
}

// temporary is the name of an output until it is complete.
func (x *extraction) temporary() (string, error) {
	temp := filepath.Join(filepath.Dir(x.Output), "."+filepath.Base(x.Output)+scratch.OutputMark+rand.Text()[:8])
	return temp, x.scratch.Note(temp)
}

func (x *extraction) dumpFile(ctx context.Context, database, role string) (err error) {
	temp, err := x.temporary()
	if err != nil {
		return fmt.Errorf("extract: %w", err)
	}
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("extract: output: %w", err)
	}
	err = x.pgDump(ctx, database, role, f, temp)
	if err == nil {
		err = f.Sync()
	}
	if info, statErr := f.Stat(); statErr == nil {
		x.result.OutputBytes = info.Size()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	// A link fails where a rename would overwrite.
	if err = os.Link(temp, x.Output); err == nil {
		err = os.Remove(temp)
	} else if !errors.Is(err, fs.ErrExist) { // a file system without links
		err = os.Rename(temp, x.Output)
	}
	return x.published(temp, err)
}

func (x *extraction) dumpDirectory(ctx context.Context, database, role string) error {
	temp, err := x.temporary()
	if err != nil {
		return fmt.Errorf("extract: %w", err)
	}
	if err = x.pgDump(ctx, database, role, io.Discard, temp); err == nil {
		x.result.OutputBytes = sizeOf(temp)
		err = os.Rename(temp, x.Output) // onto an empty directory at most
	}
	return x.published(temp, err)
}

// published makes the output's name durable, or removes what was not to be one.
func (x *extraction) published(temp string, err error) error {
	if err != nil {
		return errors.Join(err, os.RemoveAll(temp))
	}
	x.result.Output = x.Output
	dir, err := os.Open(filepath.Dir(x.Output))
	if err != nil {
		return fmt.Errorf("extract: output: %w", err)
	}
	err = dir.Sync()
	if errors.Is(err, syscall.EINVAL) {
		err = nil // a file system that does not know this
	}
	return errors.Join(err, dir.Close())
}

func sizeOf(dir string) (sum int64) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			sum += info.Size()
		}
	}
	return sum
}

// pgDump runs the program. path is the directory to make in that format, and
// otherwise only where out leads to, if that is known.
func (x *extraction) pgDump(ctx context.Context, database, role string, out io.Writer, path string) error {
	args := []string{"--format=" + string(x.Format), "--strict-names"}
	if x.Format == Directory {
		args = append(args, "--file="+path)
		if x.Jobs > 0 {
			args = append(args, "--jobs="+strconv.Itoa(x.Jobs))
		}
	}
	cmd := x.dumpCommand(ctx, database, role, append(args, x.DumpArguments...)...)
	said := &lastWords{to: x.messages()}
	cmd.Stdout, cmd.Stderr = out, said
	if err := x.watched(cmd, path); err != nil {
		return x.dumpFailed(ctx, database, err, said, x.Output == "")
	}
	return nil
}

// dumpCommand is pg_dump of the tables and schemas that were asked for, and of the
// tables' children.
func (x *extraction) dumpCommand(ctx context.Context, database, role string, options ...string) *exec.Cmd {
	server := x.result.Recovery.Server
	args := []string{
		"--no-password", "--host=" + server.SocketDirectory, "--port=" + strconv.Itoa(server.Port), "--username=" + role,
		"--dbname=dbname=" + quoteConninfo(database),
	}
	for _, t := range slices.Concat(x.Tables, x.children) {
		args = append(args, "--table="+t)
	}
	for _, s := range x.Schemas {
		args = append(args, "--schema="+s)
	}
	return x.client(ctx, "pg_dump", append(args, options...)...)
}

// client is a program of PostgreSQL's in an environment that says nothing to it.
func (x *extraction) client(ctx context.Context, program string, args ...string) *exec.Cmd {
	return scratch.Client(ctx, x.BinDir, program, args...)
}

// dumpFailed makes an error of how pg_dump has ended.
func (x *extraction) dumpFailed(ctx context.Context, database string, err error, said *lastWords, streamed bool) error {
	if ctx.Err() != nil {
		return fmt.Errorf("extract: pg_dump was stopped: %w", ctx.Err())
	}
	if what := said.missing(); what != "" {
		return &NotThereError{What: what, Name: strings.Join(append(append([]string(nil), x.Tables...), x.Schemas...), ", "), Database: database, Moment: x.moment()}
	}
	return &DumpError{Err: err, Said: said.last(), Streamed: streamed}
}

// watched runs pg_dump and reports how much it has written, where that can be seen.
func (x *extraction) watched(cmd *exec.Cmd, path string) error {
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			switch {
			case x.Format == Directory:
				x.report(Dumping, sizeOf(path), 0)
			case path != "":
				if info, err := os.Stat(path); err == nil {
					x.report(Dumping, info.Size(), 0)
				}
			default:
				x.report(Dumping, 0, 0)
			}
		}
	}()
	err := cmd.Run()
	close(done)
	<-ended
	return err
}

// quoteConninfo writes a value in a connection string: as it is, a name with a
// "=" in it would be taken for one.
func quoteConninfo(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

// lastWords passes on what a program says and keeps the end of it.
type lastWords struct {
	to   io.Writer
	tail []byte
}

const wordsKept = 4 << 10

func (l *lastWords) Write(b []byte) (int, error) {
	l.tail = append(l.tail, b...)
	if len(l.tail) > wordsKept {
		l.tail = append([]byte(nil), l.tail[len(l.tail)-wordsKept:]...)
	}
	_, _ = l.to.Write(b) // that nobody reads them must not stop the dump
	return len(b), nil
}

// last is the last line.
func (l *lastWords) last() string {
	lines := bytes.Split(bytes.TrimSpace(l.tail), []byte("\n"))
	return strings.TrimPrefix(string(lines[len(lines)-1]), "pg_dump: ")
}

// missing tells what pg_dump did not find; empty: that was not it.
func (l *lastWords) missing() string {
	for text, what := range map[string]string{
		"no matching tables were found": "table", "no matching schemas were found": "schema",
		"no matching table": "table", "no matching schema": "schema",
	} {
		if bytes.Contains(l.tail, []byte(text)) {
			return what
		}
	}
	return ""
}
