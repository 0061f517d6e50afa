//go:build unix

package waldump

import (
	"encoding/binary"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/record"
)

// Bits of xinfo that tell what pg_waldump prints (access/xact.h).
const (
	xinfoOrigin       = 1 << 5
	xinfoRelcacheFile = 1 << 30
	xinfoForceSync    = 1 << 31
)

// versionDir is a directory that a tablespace has for each major.
var versionDir = regexp.MustCompile(`PG_\d+_\d+`)

// compareTransaction compares what a commit, abort or prepare record says with
// its description.
func compareTransaction(t testing.TB, rec *record.Record, d *record.Decoded, desc string) {
	t.Helper()
	var got string
	if rec.XactOp() == record.XactPrepare {
		p, err := record.DecodePrepare(rec, d.Main)
		if err != nil {
			t.Fatal(err)
		}
		got = fmt.Sprintf("gid %s: %s", p.GID, timestamp(p.Time)) + numbers("subxacts", p.Subxacts)
		desc = preparePart.ReplaceAllString(desc, "")
	} else {
		var x record.Transaction
		if err := record.DecodeTransaction(rec, d.Main, &x); err != nil {
			t.Fatal(err)
		}
		got = ending(rec, d, &x)
		desc = versionDir.ReplaceAllString(tablespaceID.ReplaceAllString(desc, "$1"), "PG")
	}
	if diff := cmp.Diff(desc, got); diff != "" {
		t.Fatalf("%s at %v: pg_waldump's -, ours +\n%s", rec.Name(), rec.LSN, diff)
	}
}

// preparePart are the parts of a prepared transaction that DecodePrepare
// leaves to the record that ends it.
var preparePart = regexp.MustCompile(`; (rels\(\w+\)|\w+ dropped stats|inval msgs|relcache init file inval|origin)[^;]*`)

// tablespaceID is in the description of what Transaction has no field for.
var tablespaceID = regexp.MustCompile(`(; relcache init file inval dbid \d+) tsid \d+`)

func timestamp(at time.Time) string { return at.Format("2006-01-02 15:04:05.000000 MST") }

// ending describes a commit or abort as xactdesc.c does.
func ending(rec *record.Record, d *record.Decoded, x *record.Transaction) string {
	var b strings.Builder
	if x.Op == record.XactCommitPrepared || x.Op == record.XactAbortPrepared {
		fmt.Fprintf(&b, "%d: ", x.XID)
	}
	b.WriteString(timestamp(x.Time))
	for i, r := range x.Relations {
		if i == 0 {
			b.WriteString("; rels:")
		}
		b.WriteString(" " + path(r))
	}
	b.WriteString(numbers("subxacts", x.Subxacts))
	for i, s := range x.DroppedStats {
		if i == 0 {
			b.WriteString("; dropped stats:")
		}
		fmt.Fprintf(&b, " %d/%d/%d", s.Kind, s.Database, s.Object)
	}
	if len(x.Invalidations) > 0 {
		if x.Info&xinfoRelcacheFile != 0 {
			fmt.Fprintf(&b, "; relcache init file inval dbid %d", x.Database)
		}
		b.WriteString("; inval msgs:" + invalidations(x.Invalidations))
	}
	if x.Info&xinfoForceSync != 0 {
		b.WriteString("; sync")
	}
	if x.Info&xinfoOrigin != 0 {
		fmt.Fprintf(&b, "; origin: node %d, lsn %s, at %s", d.Origin, lsnText(rec.Major, x.OriginLSN), timestamp(x.OriginTime))
	}
	return b.String()
}

// lsnText writes a position as the major does.
func lsnText(major int, l wal.LSN) string {
	if major >= 19 {
		return fmt.Sprintf("%X/%08X", uint64(l)>>32, uint32(l))
	}
	return fmt.Sprintf("%X/%X", uint64(l)>>32, uint32(l))
}

func numbers(name string, list []uint32) string {
	if len(list) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("; " + name + ":")
	for _, n := range list {
		fmt.Fprintf(&b, " %d", n)
	}
	return b.String()
}

// path is where a relation's main fork lies (GetRelationPath in common/relpath.c).
func path(r record.Relation) string {
	switch r.Tablespace {
	case 1663: // pg_default
		return fmt.Sprintf("base/%d/%d", r.Database, r.Number)
	case 1664: // pg_global
		return fmt.Sprintf("global/%d", r.Number)
	}
	return fmt.Sprintf("pg_tblspc/%d/PG/%d/%d", r.Tablespace, r.Database, r.Number)
}

// invalidations describes shared invalidation messages as standbydesc.c does.
func invalidations(b []byte) string {
	var s strings.Builder
	for ; len(b) > 0; b = b[16:] {
		object := binary.LittleEndian.Uint32(b[8:])
		switch id := int8(b[0]); id {
		case -1:
			fmt.Fprintf(&s, " catalog %d", object)
		case -2:
			fmt.Fprintf(&s, " relcache %d", object)
		case -3:
			s.WriteString(" smgr")
		case -4:
			s.WriteString(" relmap")
		case -5:
			fmt.Fprintf(&s, " snapshot %d", object)
		case -6:
			fmt.Fprintf(&s, " relsync %d", object)
		default:
			fmt.Fprintf(&s, " catcache %d", id)
		}
	}
	return s.String()
}
