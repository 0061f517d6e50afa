package basebackup

import (
	"fmt"
	"io"
	"iter"
	"strings"
)

// MismatchError says that what was stored is not what the server's
// backup_manifest lists. The backup was not published.
type MismatchError struct {
	// Problems describe the first files, one each.
	Problems []string
	// More is the number of further files.
	More int
}

// Error lists the files.
func (e *MismatchError) Error() string {
	s := "what was stored disagrees with the server's backup_manifest: " + strings.Join(e.Problems, "; ")
	if e.More > 0 {
		s += fmt.Sprintf("; and %d more", e.More)
	}
	return s
}

const maxProblems = 20

func (e *MismatchError) add(format string, args ...any) {
	if len(e.Problems) == maxProblems {
		e.More++
		return
	}
	e.Problems = append(e.Problems, fmt.Sprintf(format, args...))
}

// comparison matches two lists of files: that of the server's manifest and
// that of the shards. The server lists files in the order it sends them, so
// that as a rule each pair meets at once, and what waits for its partner, and
// the memory for it, stays small.
type comparison struct {
	next     func() (FileEntry, error, bool)
	listed   map[string]manifestFile // in the manifest, not yet met in the shards
	stored   map[string]manifestFile // in the shards, not yet met in the manifest
	problems MismatchError
}

// compareFiles reads the server's manifest and holds it against the entries
// that were stored. The result is the manifest's other content.
func compareFiles(manifest io.Reader, entries iter.Seq2[FileEntry, error]) (serverManifest, error) {
	next, stop := iter.Pull2(entries)
	defer stop()
	c := &comparison{next: next, listed: map[string]manifestFile{}, stored: map[string]manifestFile{}}
	m, err := readServerManifest(manifest, c.file)
	if err != nil {
		return m, err
	}
	for {
		more, err := c.advance()
		if err != nil {
			return m, err
		}
		if !more {
			break
		}
	}
	for path := range c.listed {
		c.problems.add("%q is in the manifest but was not received", path)
	}
	for path := range c.stored {
		c.problems.add("%q was received but is not in the manifest", path)
	}
	if len(c.problems.Problems) > 0 {
		return m, &c.problems
	}
	return m, nil
}

// file takes the next file of the manifest.
func (c *comparison) file(f manifestFile) error {
	if have, ok := c.stored[f.path]; ok {
		delete(c.stored, f.path)
		c.match(f, have)
		return nil
	}
	if _, twice := c.listed[f.path]; twice {
		return fmt.Errorf("%q is listed twice", f.path)
	}
	c.listed[f.path] = f
	_, err := c.advance()
	return err
}

// advance takes the next regular file of the shards. more is false at their end.
func (c *comparison) advance() (more bool, err error) {
	for {
		e, err, ok := c.next()
		if !ok {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if e.Kind != KindFile || e.Path == ManifestPath {
			continue
		}
		have := manifestFile{path: e.Path, size: e.Size, crc: e.CRC}
		if f, ok := c.listed[e.Path]; ok {
			delete(c.listed, e.Path)
			c.match(f, have)
		} else if _, twice := c.stored[e.Path]; twice {
			c.problems.add("%q was received twice", e.Path)
		} else {
			c.stored[e.Path] = have
		}
		return true, nil
	}
}

func (c *comparison) match(listed, stored manifestFile) {
	switch {
	case listed.size != stored.size:
		c.problems.add("%q has %d bytes instead of %d", listed.path, stored.size, listed.size)
	case listed.crc != stored.crc:
		c.problems.add("%q has CRC-32C %08x instead of %08x", listed.path, stored.crc, listed.crc)
	}
}
