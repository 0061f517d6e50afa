package archive

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/walden-pg/walden/wal"
)

const (
	identityName   = "identity.json"
	walDirectory   = "wal/"
	historySuffix  = ".history"
	maxClusterName = 63
)

// CheckClusterName returns an error unless name can be that of a cluster:
// 1 to 63 characters a–z 0–9 _ -, the first a letter or a digit. It becomes
// the first part of the keys of everything the cluster stores.
func CheckClusterName(name string) error {
	if name == "" {
		return fmt.Errorf("cluster name is empty: use 1 to %d characters of a-z 0-9 _ -", maxClusterName)
	}
	if len(name) > maxClusterName {
		return fmt.Errorf("cluster name %.70q is too long: use 1 to %d characters of a-z 0-9 _ -", name, maxClusterName)
	}
	for i := range len(name) {
		c := name[i]
		alnum := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '_' && c != '-') {
			return fmt.Errorf("cluster name %q: use 1 to %d characters of a-z 0-9 _ -, the first a letter or a digit", name, maxClusterName)
		}
	}
	return nil
}

// Prefix is what the keys of everything of this incarnation start with; it
// ends in a slash.
func (i Incarnation) Prefix() string {
	return fmt.Sprintf("%s/%d-%d/", i.Cluster, i.Number, i.SystemID)
}

// IdentityKey is the key of the object that makes the incarnation exist.
func (i Incarnation) IdentityKey() string { return i.Prefix() + identityName }

// parseIncarnationName takes apart the second part of a key,
// <number>-<system identifier>; ok is false for anything else.
func parseIncarnationName(s string) (number int, systemID uint64, ok bool) {
	n, id, found := strings.Cut(s, "-")
	if !found {
		return 0, 0, false
	}
	number, err := strconv.Atoi(n)
	if err != nil || number < 1 {
		return 0, 0, false
	}
	systemID, err = strconv.ParseUint(id, 10, 64)
	if err != nil || systemID == 0 {
		return 0, 0, false
	}
	return number, systemID, fmt.Sprintf("%d-%d", number, systemID) == s
}

// walPrefix is what all keys of the incarnation's WAL start with.
func walPrefix(inc Incarnation) string { return inc.Prefix() + walDirectory }

// timelinePrefix is what the keys of a timeline's segments start with.
func timelinePrefix(inc Incarnation, tli wal.TimelineID) string {
	return walPrefix(inc) + tli.Hex() + "/"
}

// logPrefix is what the keys of the segments of one log (4 GiB of WAL) start with.
func logPrefix(inc Incarnation, tli wal.TimelineID, log uint32) string {
	return fmt.Sprintf("%s%08X/", timelinePrefix(inc, tli), log)
}

// FileKey is the key of any file that PostgreSQL archives.
func FileKey(inc Incarnation, f wal.File) string {
	if f.Kind == wal.FileHistory {
		return walPrefix(inc) + f.Name()
	}
	return logPrefix(inc, f.Segment.Timeline, f.Segment.Log()) + f.Name()
}

// SegmentKey is the key of a complete segment.
func SegmentKey(inc Incarnation, seg wal.Segment) string {
	return FileKey(inc, segmentFile(seg))
}

// HistoryKey is the key of a timeline's history file.
func HistoryKey(inc Incarnation, tli wal.TimelineID) string {
	return FileKey(inc, wal.File{Kind: wal.FileHistory, Timeline: tli})
}

func segmentFile(seg wal.Segment) wal.File {
	return wal.File{Kind: wal.FileSegment, Segment: seg, Timeline: seg.Timeline}
}
