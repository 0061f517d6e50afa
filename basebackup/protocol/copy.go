package protocol

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walden-pg/walden/basebackup"
)

// separateCopies reads one COPY for each tablespace and one for the manifest:
// PostgreSQL 14. Its archives lack the two zero blocks at the end.
func (r *run) separateCopies(spaces []basebackup.Tablespace) error {
	for _, space := range spaces {
		if err := r.copyOut(); err != nil {
			return err
		}
		if err := r.untar(space, &copyReader{run: r, next: r.plainData}, false); err != nil {
			return err
		}
	}
	if err := r.copyOut(); err != nil {
		return fmt.Errorf("backup manifest: %w", err)
	}
	return r.manifest(&copyReader{run: r, next: r.plainData})
}

// copyOut expects the beginning of a COPY.
func (r *run) copyOut() error {
	msg, err := r.receive()
	if err != nil {
		return err
	}
	if _, ok := msg.(*pgproto3.CopyOutResponse); !ok {
		return fmt.Errorf("unexpected message %T where an archive should begin", msg)
	}
	return nil
}

// plainData returns the next payload of a COPY, io.EOF at its end.
func (r *run) plainData() ([]byte, error) {
	msg, err := r.receive()
	if err != nil {
		return nil, err
	}
	switch m := msg.(type) {
	case *pgproto3.CopyData:
		return m.Data, nil
	case *pgproto3.CopyDone:
		return nil, io.EOF
	}
	return nil, fmt.Errorf("unexpected message %T within an archive", msg)
}

// singleCopy reads the one COPY of PostgreSQL 15 and later.
func (r *run) singleCopy(spaces []basebackup.Tablespace) error {
	if err := r.copyOut(); err != nil {
		return err
	}
	t := &typedCopy{run: r}
	if err := t.advance(); err != nil {
		return err
	}
	for _, space := range spaces {
		if err := t.expectArchive(space); err != nil {
			return err
		}
		if err := r.untar(space, &copyReader{run: r, next: t.data}, true); err != nil {
			return err
		}
	}
	if t.head.kind != 'm' {
		return fmt.Errorf("%s where the backup manifest should begin", t.head)
	}
	if err := r.manifest(&copyReader{run: r, next: t.data}); err != nil {
		return err
	}
	if t.head.kind != 0 {
		return fmt.Errorf("%s after the backup manifest", t.head)
	}
	return nil
}

// manifest hands the server's manifest to the sink, which must read it all.
func (r *run) manifest(c *copyReader) error {
	if err := r.sink.Manifest(c); err != nil {
		return fmt.Errorf("backup manifest: %w", c.orLost(err))
	}
	if c.err != io.EOF { //nolint:errorlint // a wrapped io.EOF is an error of the connection, not an end
		return errors.New("backup manifest: not read to its end")
	}
	return nil
}

// header is a message that begins an archive ('n') or the manifest ('m'), or
// the end of the COPY (0).
type header struct {
	kind     byte
	name     string
	location string
}

func (h header) String() string {
	switch h.kind {
	case 'n':
		return fmt.Sprintf("the server began the archive %q", h.name)
	case 'm':
		return "the server began its manifest"
	}
	return "the server ended the copy"
}

// typedCopy splits the single COPY into archives and manifest.
type typedCopy struct {
	run  *run
	head header // what the current part is; after data's io.EOF, the next part
}

// advance skips to the next header.
func (t *typedCopy) advance() error {
	b, err := t.data()
	if err == nil && len(b) > 0 {
		return errors.New("the server sent data that belongs to no archive")
	}
	if err == io.EOF { //nolint:errorlint // a wrapped io.EOF is an error of the connection, not an end
		return nil
	}
	return err
}

// data returns the next piece of the current part. At its end it keeps the
// header of the next part and returns io.EOF.
func (t *typedCopy) data() ([]byte, error) {
	for {
		b, err := t.run.plainData()
		if err == io.EOF { //nolint:errorlint // a wrapped io.EOF is an error of the connection, not an end
			t.head = header{}
			return nil, io.EOF
		}
		if err != nil {
			return nil, err
		}
		if len(b) == 0 {
			return nil, errors.New("the server sent an empty message within an archive")
		}
		switch b[0] {
		case 'd':
			return b[1:], nil
		case 'p': // the server's own count; ours is finer
		case 'm':
			t.head = header{kind: 'm'}
			return nil, io.EOF
		case 'n':
			if t.head, err = parseArchiveHeader(b[1:]); err != nil {
				return nil, err
			}
			return nil, io.EOF
		default:
			return nil, fmt.Errorf("the server sent a message of unknown type %q within an archive", b[0])
		}
	}
}

// parseArchiveHeader reads two NUL-terminated strings: the archive's name and
// the tablespace's location.
func parseArchiveHeader(b []byte) (header, error) {
	name, rest, ok := bytes.Cut(b, []byte{0})
	location, rest, ok2 := bytes.Cut(rest, []byte{0})
	if !ok || !ok2 || len(rest) != 0 {
		return header{}, errors.New("the server sent a malformed archive header")
	}
	return header{kind: 'n', name: string(name), location: string(location)}, nil
}

// expectArchive checks that the current header is that of space.
func (t *typedCopy) expectArchive(space basebackup.Tablespace) error {
	want := "base.tar"
	if space.OID != 0 {
		want = fmt.Sprintf("%d.tar", space.OID)
	}
	if t.head.kind != 'n' || !strings.EqualFold(t.head.name, want) {
		return fmt.Errorf("%s where %q was due", t.head, want)
	}
	return nil
}

// copyReader is one archive or the manifest as an io.Reader. A payload stays
// in the connection's buffer and is used up before the next one is received.
type copyReader struct {
	run  *run
	next func() ([]byte, error)
	rest []byte
	read int64
	err  error
}

func (c *copyReader) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		if c.err != nil {
			return 0, c.err
		}
		c.rest, c.err = c.next()
		if c.err == nil {
			c.run.received += int64(len(c.rest))
			c.run.sink.Progress(c.run.received)
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	c.read += int64(n)
	return n, nil
}

// orLost prefers the error of the connection to what became of it on the way.
func (c *copyReader) orLost(err error) error {
	if c.err != nil && c.err != io.EOF { //nolint:errorlint // a wrapped io.EOF is an error of the connection, not an end
		return c.err
	}
	return err
}
