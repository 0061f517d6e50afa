package verify

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/names"
	"github.com/walden-pg/walden/wal/rollup"
)

// place is what a key says. Only what belongs to the kind is set.
type place struct {
	key  string
	kind Kind

	file       wal.File
	fragment   archive.Fragment
	log        rollup.Log
	generation uint32
	backup     string // of claims, manifests, tables and packs
	number     int
	names      names.ID
	record     uint32
}

// reserved are directories of an incarnation that other versions of Walden may use.
var reserved = []string{"leases/", "tombstones/", "audit/", "drills/"}

// isReserved reports whether a key below the incarnation's prefix is not looked at.
func isReserved(rest string) bool {
	for _, p := range reserved {
		if strings.HasPrefix(rest, p) {
			return true
		}
	}
	return false
}

// shapes tell the kind of an object from its key below the incarnation's prefix,
// without what the identity must be known for.
var shapes = []struct {
	kind    Kind
	pattern *regexp.Regexp
}{
	{KindIdentity, regexp.MustCompile(`^identity\.json$`)},
	{KindSegment, regexp.MustCompile(`^wal/[0-9A-F]{8}/[0-9A-F]{8}/[0-9A-F]{24}$`)},
	{KindPartial, regexp.MustCompile(`^wal/[0-9A-F]{8}/[0-9A-F]{8}/[0-9A-F]{24}\.partial$`)},
	{KindBackupHistory, regexp.MustCompile(`^wal/[0-9A-F]{8}/[0-9A-F]{8}/[0-9A-F]{24}\.[0-9A-F]{8}\.backup$`)},
	{KindHistory, regexp.MustCompile(`^wal/[0-9A-F]{8}\.history$`)},
	{KindFragment, regexp.MustCompile(`^live/[0-9A-F]{8}/[0-9A-F]{24}/[0-9A-F]{8}-[0-9A-F]{8}$`)},
	{KindRollup, regexp.MustCompile(`^index/[0-9A-F]{8}/[0-9A-F]{8}/[0-9A-F]{8}$`)},
	{KindNames, regexp.MustCompile(`^names/[^/]+$`)},
	{KindClaim, regexp.MustCompile(`^backups/[^/]+/started$`)},
	{KindManifest, regexp.MustCompile(`^backups/[^/]+/manifest$`)},
	{KindTable, regexp.MustCompile(`^extents/[^/]+/[0-9]{6}$`)},
	{KindPack, regexp.MustCompile(`^packs/[^/]+/[0-9]{6}$`)},
	{KindRate, regexp.MustCompile(`^rates/\d{8}T\d{6}Z-[0-9a-z]{8}$`)},
	{KindRecord, regexp.MustCompile(`^verified/[0-9A-F]{8}$`)},
}

// shapeOf is the kind that a key below the incarnation's prefix looks like.
func shapeOf(rest string) Kind {
	for _, s := range shapes {
		if s.pattern.MatchString(rest) {
			return s.kind
		}
	}
	return KindUnknown
}

// place takes a key apart. What no version of this repository's format would store
// there is of KindUnknown.
func (c *checker) place(key string) place {
	rest := strings.TrimPrefix(key, c.inc.Prefix())
	p := place{key: key, kind: shapeOf(rest)}
	ok := true
	switch p.kind {
	case KindSegment, KindPartial, KindBackupHistory, KindHistory:
		p.file, ok = c.archive.FileOf(key)
	case KindFragment:
		p.fragment, ok = c.archive.FragmentOf(key)
	case KindRollup:
		p.log, p.generation, ok = c.rollups.Parse(key)
	case KindNames:
		var err error
		p.names, err = names.ParseID(strings.TrimPrefix(rest, "names/"))
		ok = err == nil
	case KindClaim, KindManifest, KindTable, KindPack:
		parts := strings.Split(rest, "/")
		p.backup = parts[1]
		ok = basebackup.CheckID(p.backup) == nil
		if p.kind == KindTable || p.kind == KindPack {
			p.number, _ = strconv.Atoi(parts[2]) // six digits
		}
	case KindRecord:
		p.record, ok = recordNumber(rest)
	}
	if !ok {
		p.kind = KindUnknown
	}
	return p
}
