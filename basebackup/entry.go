package basebackup

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/walden-pg/walden/storage/frame"
)

// EntryKind says what a FileEntry is.
type EntryKind string

const (
	// KindFile is a regular file of the data directory or of a tablespace.
	KindFile EntryKind = "file"
	// KindDir is a directory.
	KindDir EntryKind = "dir"
	// KindSymlink is the link of a tablespace, pg_tblspc/<oid>.
	KindSymlink EntryKind = "symlink"
	// KindConfig is a configuration file that the server does not send: it lies
	// outside the data directory, or is a symbolic link there (then its siblings
	// are entries as well). Its path is the absolute one it had on the server.
	KindConfig EntryKind = "config"
)

// ManifestPath is the path of the entry that holds the server's backup_manifest.
const ManifestPath = "backup_manifest"

// FileEntry is one line of a shard: a file and where its bytes are.
type FileEntry struct {
	// Path is slash-separated and relative to the data directory; absolute for
	// KindConfig. It need not be UTF-8.
	Path string
	Kind EntryKind
	// Size is the file's length; its extents add up to it.
	Size int64
	// Mode holds permission bits; 0 for KindConfig means unknown.
	Mode    uint32
	ModTime time.Time
	// CRC is the CRC-32C (Castagnoli) of the whole file; 0 for an empty one.
	CRC uint32
	// Extents are the file's bytes in order; none for an empty file.
	Extents []Extent
	// Target is where a symlink points.
	Target string
}

// Extent is a run of a file's bytes within a pack.
type Extent struct {
	// Backup is the backup whose pack it is. In a stored shard it is left out
	// where it is the backup that wrote the shard; ReadShard fills it in.
	Backup string `json:"backup,omitempty"`
	// Pack is the pack's number within that backup.
	Pack int `json:"pack"`
	// Offset is where the run begins in the pack's raw bytes, a multiple of
	// 8192; Length is at least 1.
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
}

// entryJSON is how a FileEntry is written. Names that are not UTF-8 cannot be
// JSON strings: they go into the hexadecimal twins.
type entryJSON struct {
	Path      string    `json:"path,omitempty"`
	PathHex   string    `json:"path_hex,omitempty"`
	Kind      EntryKind `json:"kind"`
	Size      int64     `json:"size,omitempty"`
	Mode      string    `json:"mode,omitempty"`
	ModTime   int64     `json:"mtime,omitempty"`
	CRC       string    `json:"crc32c,omitempty"`
	Target    string    `json:"target,omitempty"`
	TargetHex string    `json:"target_hex,omitempty"`
	Extents   []Extent  `json:"extents,omitempty"`
}

// MarshalJSON writes the entry as docs/format-backup.md says.
func (e FileEntry) MarshalJSON() ([]byte, error) {
	j := entryJSON{Kind: e.Kind, Size: e.Size, Extents: e.Extents}
	j.Path, j.PathHex = textOrHex(e.Path)
	j.Target, j.TargetHex = textOrHex(e.Target)
	if e.Mode != 0 {
		j.Mode = fmt.Sprintf("%04o", e.Mode)
	}
	if !e.ModTime.IsZero() {
		j.ModTime = e.ModTime.Unix()
	}
	if e.Kind == KindFile || e.Kind == KindConfig {
		j.CRC = fmt.Sprintf("%08x", e.CRC)
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads what MarshalJSON wrote. It does not judge the values;
// Validate does.
func (e *FileEntry) UnmarshalJSON(b []byte) error {
	var j entryJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	path, err := fromTextOrHex(j.Path, j.PathHex)
	if err != nil {
		return fmt.Errorf("path_hex: %w", err)
	}
	target, err := fromTextOrHex(j.Target, j.TargetHex)
	if err != nil {
		return fmt.Errorf("target_hex: %w", err)
	}
	*e = FileEntry{Path: path, Kind: j.Kind, Size: j.Size, Target: target, Extents: j.Extents}
	if j.Mode != "" {
		if e.Mode, err = parseUint32(j.Mode, 8); err != nil {
			return fmt.Errorf("mode of %q: %w", path, err)
		}
	}
	if j.ModTime != 0 {
		e.ModTime = time.Unix(j.ModTime, 0).UTC()
	}
	if j.CRC != "" {
		if e.CRC, err = parseUint32(j.CRC, 16); err != nil {
			return fmt.Errorf("crc32c of %q: %w", path, err)
		}
	}
	return nil
}

func textOrHex(s string) (text, hexed string) {
	if utf8.ValidString(s) {
		return s, ""
	}
	return "", hex.EncodeToString([]byte(s))
}

func fromTextOrHex(text, hexed string) (string, error) {
	if hexed == "" {
		return text, nil
	}
	b, err := hex.DecodeString(hexed)
	return string(b), err
}

func parseUint32(s string, base int) (uint32, error) {
	n, err := strconv.ParseUint(s, base, 32)
	return uint32(n), err
}

// Validate checks that the entry makes sense in itself: the kind is known, the
// path stays where it belongs, the extents add up to the size.
func (e *FileEntry) Validate() error {
	switch e.Kind {
	case KindConfig:
		if !absolutePath(e.Path) {
			return fmt.Errorf("configuration file %q: the path is not absolute", e.Path)
		}
	case KindFile, KindDir, KindSymlink:
		if err := checkRelative(e.Path); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%q: unknown kind %q", e.Path, e.Kind)
	}
	if e.Kind == KindSymlink && e.Target == "" {
		return fmt.Errorf("%q: a link without a target", e.Path)
	}
	var sum int64
	for _, x := range e.Extents {
		if x.Length < 1 || x.Offset < 0 || x.Offset%frame.PageSize != 0 || x.Pack < 0 || x.Length > e.Size-sum {
			return fmt.Errorf("%q: illegal extent %+v", e.Path, x)
		}
		sum += x.Length
	}
	if e.Size < 0 || sum != e.Size || e.Size > 0 && (e.Kind == KindDir || e.Kind == KindSymlink) {
		return fmt.Errorf("%q: its extents hold %d of %d bytes", e.Path, sum, e.Size)
	}
	return nil
}

// absolutePath knows the absolute paths of Unix and of Windows servers.
func absolutePath(p string) bool {
	return strings.HasPrefix(p, "/") || strings.HasPrefix(p, `\\`) ||
		len(p) > 2 && p[1] == ':' && (p[2] == '/' || p[2] == '\\')
}

// checkRelative refuses paths that are not clean or lead out of the data directory.
func checkRelative(path string) error {
	for part := range strings.SplitSeq(path, "/") {
		if part == "" || part == "." || part == ".." || strings.ContainsRune(part, 0) {
			return fmt.Errorf("illegal path %q", path)
		}
	}
	return nil
}
