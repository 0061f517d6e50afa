package protocol

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/walden-pg/walden/basebackup"
)

const tarBlock = 512

// untar takes the archive of one tablespace apart and hands its entries to the
// sink. trailer says that the archive must end with two zero blocks; without
// one a cut between two files shows only when the manifest is compared.
func (r *run) untar(space basebackup.Tablespace, c *copyReader, trailer bool) error {
	name, prefix := "the data directory", ""
	if space.OID != 0 {
		name = fmt.Sprintf("tablespace %d", space.OID)
		prefix = fmt.Sprintf("pg_tblspc/%d/", space.OID)
	}
	if err := r.entries(prefix, c, trailer); err != nil {
		return fmt.Errorf("archive of %s: %w", name, c.orLost(err))
	}
	return nil
}

func (r *run) entries(prefix string, c *copyReader, trailer bool) error {
	tr := tar.NewReader(&timeFilter{r: c})
	for padding := int64(0); ; {
		before := c.read
		h, err := tr.Next()
		if err == io.EOF {
			if trailer && c.read-before-padding < 2*tarBlock {
				return io.ErrUnexpectedEOF
			}
			return onlyZeros(c)
		}
		if err != nil {
			return fmt.Errorf("at byte %d: %w", c.read, err)
		}
		if err := r.entry(prefix, h, tr); err != nil {
			return err
		}
		padding = -h.Size & (tarBlock - 1)
		if h.Typeflag != tar.TypeReg {
			padding = 0
		}
	}
}

// entry hands one entry to the sink.
func (r *run) entry(prefix string, h *tar.Header, body io.Reader) error {
	if h.Typeflag == tar.TypeDir && strings.Trim(h.Name, "./") == "" {
		return nil // the root of the archive itself
	}
	// pg_wal/archive_status comes with "./" before it (sendDir).
	name := strings.TrimSuffix(strings.TrimPrefix(h.Name, "./"), "/")
	if err := checkPath(name); err != nil {
		return err
	}
	header := basebackup.Header{
		Path:    prefix + name,
		Mode:    uint32(h.Mode & 0o7777),
		ModTime: h.ModTime.UTC(),
	}
	var err error
	switch h.Typeflag {
	case tar.TypeDir:
		err = r.sink.Directory(header)
	case tar.TypeSymlink:
		header.Target = h.Linkname
		err = r.sink.Symlink(header)
	case tar.TypeReg:
		header.Size = h.Size
		err = r.file(header, body)
	default:
		err = fmt.Errorf("entry of unexpected type %q", h.Typeflag)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", header.Path, err)
	}
	return nil
}

func (r *run) file(h basebackup.Header, body io.Reader) error {
	counted := &countingReader{r: body}
	if err := r.sink.File(h, counted); err != nil {
		return err
	}
	if counted.n != h.Size {
		return fmt.Errorf("%d of %d bytes were read", counted.n, h.Size)
	}
	return nil
}

type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// checkPath refuses names that are not clean relative paths.
func checkPath(name string) error {
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." || strings.ContainsRune(part, 0) {
			return fmt.Errorf("the archive holds an entry with the illegal name %q", name)
		}
	}
	return nil
}

// onlyZeros reads to the end and refuses anything but zeros.
func onlyZeros(r io.Reader) error {
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		for _, b := range buf[:n] {
			if b != 0 {
				return errors.New("data after the end of the archive")
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
