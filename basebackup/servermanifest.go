package basebackup

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/bits"
	"strconv"
	"strings"

	"github.com/walden-pg/walden/wal"
)

// serverManifest is what a backup_manifest says beside its files.
type serverManifest struct {
	version  int
	systemID uint64 // 0 in version 1
	ranges   []WALRange
}

// manifestFile is one file of a backup_manifest.
type manifestFile struct {
	path string
	size int64
	crc  uint32
}

// readServerManifest parses a backup_manifest of version 1 or 2 as PostgreSQL
// writes it (backup/backup_manifest.c): one file, WAL range or bracket a line,
// and on the last line the SHA-256 of all lines before. Every file is given to
// each as it is read; what each returns ends the parsing. Nothing is to be
// believed unless the error is nil, since the checksum comes last.
func readServerManifest(r io.Reader, each func(manifestFile) error) (serverManifest, error) {
	p := &manifestParser{r: bufio.NewReaderSize(r, 64<<10), sum: sha256.New(), each: each}
	err := p.parse()
	if err != nil {
		return serverManifest{}, fmt.Errorf("backup_manifest, line %d: %w", p.line, err)
	}
	return p.m, nil
}

// maxManifestLine bounds a line: a path, twice as long in hexadecimal, and little else.
const maxManifestLine = 64 << 10

type manifestParser struct {
	r    *bufio.Reader
	sum  hash.Hash
	line int
	m    serverManifest
	each func(manifestFile) error
}

// next reads a line, its newline cut off. Lines that are not the last are
// part of the checksum.
func (p *manifestParser) next() (string, error) {
	p.line++
	b, err := p.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) || len(b) > maxManifestLine {
		return "", errors.New("the line is too long")
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return "", err
	}
	if !bytes.HasPrefix(b, []byte(`"Manifest-Checksum"`)) {
		p.sum.Write(b)
	}
	return string(b[:len(b)-1]), nil
}

func (p *manifestParser) parse() error {
	line, err := p.next()
	if err != nil {
		return err
	}
	number, ok := cutAround(line, `{ "PostgreSQL-Backup-Manifest-Version": `, ",")
	if !ok {
		return errors.New("it does not begin like a backup manifest")
	}
	if p.m.version, err = strconv.Atoi(number); err != nil || p.m.version < 1 || p.m.version > 2 {
		return fmt.Errorf("version %q of the manifest is not known", number)
	}
	if p.m.version >= 2 {
		if err := p.systemIdentifier(); err != nil {
			return err
		}
	}
	if err := p.list(`"Files": [`, p.file); err != nil {
		return err
	}
	if err := p.list(`"WAL-Ranges": [`, p.walRange); err != nil {
		return err
	}
	return p.checksum()
}

func (p *manifestParser) systemIdentifier() error {
	line, err := p.next()
	if err != nil {
		return err
	}
	number, ok := cutAround(line, `"System-Identifier": `, ",")
	if !ok {
		return errors.New("the system identifier is missing")
	}
	p.m.systemID, err = strconv.ParseUint(number, 10, 64)
	return err
}

// list reads a list of objects, one a line, all but the last with a comma.
func (p *manifestParser) list(opening string, item func(string) error) error {
	line, err := p.next()
	if err != nil {
		return err
	}
	if line != opening {
		return fmt.Errorf("%s is missing", opening)
	}
	for first, more := true, true; ; first = false {
		if line, err = p.next(); err != nil {
			return err
		}
		if line == "]," {
			// A comma before the bracket is written by no server, but an empty list is.
			if more && !first {
				return errors.New("the list ends after a comma")
			}
			return nil
		}
		if !more {
			return errors.New("a comma is missing")
		}
		line, more = strings.CutSuffix(line, ",")
		if err := item(line); err != nil {
			return err
		}
	}
}

func (p *manifestParser) file(text string) error {
	var j struct {
		Path         *string `json:"Path"`
		EncodedPath  *string `json:"Encoded-Path"`
		Size         *int64  `json:"Size"`
		LastModified string  `json:"Last-Modified"`
		Algorithm    string  `json:"Checksum-Algorithm"`
		Checksum     string  `json:"Checksum"`
	}
	if err := strictJSON(text, &j); err != nil {
		return err
	}
	if (j.Path == nil) == (j.EncodedPath == nil) || j.Size == nil || *j.Size < 0 {
		return errors.New("a file without path or size")
	}
	f := manifestFile{size: *j.Size}
	if j.Path != nil {
		f.path = *j.Path
	} else {
		b, err := hex.DecodeString(*j.EncodedPath)
		if err != nil {
			return fmt.Errorf("encoded path: %w", err)
		}
		f.path = string(b)
	}
	if err := checkRelative(f.path); err != nil {
		return err
	}
	crc, err := hex.DecodeString(j.Checksum)
	if j.Algorithm != "CRC32C" || err != nil || len(crc) != 4 {
		return fmt.Errorf("%q: checksum %q of kind %q is not a CRC32C", f.path, j.Checksum, j.Algorithm)
	}
	// The server writes the four bytes as they lie in its memory, the least
	// significant first on every machine that Walden reads WAL of.
	n, _ := strconv.ParseUint(j.Checksum, 16, 32)
	f.crc = bits.ReverseBytes32(uint32(n))
	return p.each(f)
}

func (p *manifestParser) walRange(text string) error {
	var j struct {
		Timeline wal.TimelineID `json:"Timeline"`
		Start    wal.LSN        `json:"Start-LSN"`
		End      wal.LSN        `json:"End-LSN"`
	}
	if err := strictJSON(text, &j); err != nil {
		return err
	}
	if j.Timeline == 0 || j.Start == 0 || j.Start > j.End {
		return fmt.Errorf("impossible WAL range %s to %s on timeline %d", j.Start, j.End, j.Timeline)
	}
	p.m.ranges = append(p.m.ranges, WALRange(j))
	return nil
}

func (p *manifestParser) checksum() error {
	line, err := p.next()
	if err != nil {
		return err
	}
	text, ok := cutAround(line, `"Manifest-Checksum": "`, `"}`)
	if !ok {
		return errors.New("its checksum is missing")
	}
	if computed := hex.EncodeToString(p.sum.Sum(nil)); text != computed {
		return fmt.Errorf("its checksum is %s, not %s as it says", computed, text)
	}
	if _, err := p.r.ReadByte(); err != io.EOF { //nolint:errorlint // a wrapped io.EOF is a broken read, not an end
		if err == nil {
			err = errors.New("data after its end")
		}
		return err
	}
	return nil
}

func cutAround(s, prefix, suffix string) (string, bool) {
	s, ok := strings.CutPrefix(s, prefix)
	s, ok2 := strings.CutSuffix(s, suffix)
	return s, ok && ok2
}

// strictJSON decodes exactly one document without unknown keys.
func strictJSON(text string, v any) error {
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("data after an object")
	}
	return nil
}
