//go:build unix

package record_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/wal/record"
	"github.com/walden-pg/walden/wal/waltest"
)

// everyKind writes a record of every resource manager that the major has, with
// every value of the high four bits of xl_info but XLOG_SWITCH, which would end
// the segment.
func everyKind(major int) *waltest.Builder {
	b := waltest.NewBuilder(major, system, 1, size)
	for id := record.RMXLOG; ; id++ {
		known := id <= record.RMLogicalMessage || id >= record.RMCustom
		for op := 0; known && op < 16; op++ {
			r := waltest.Record{RMGR: id, Info: uint8(op << 4), Main: []byte("x")}
			if id != record.RMXLOG || r.Info != record.XLOGSwitch {
				b.Record(r)
			}
		}
		if id == 255 {
			return b
		}
	}
}

var statsLine = regexp.MustCompile(`(?m)^(\S+/\S+(?: \([0-9a-f]+\))?) +\d+ \(`)

// TestKindNames compares the name of every kind of record there can be with the
// one pg_waldump has for it. Statistics need no content that makes sense.
func TestKindNames(t *testing.T) {
	for _, major := range pgtest.Majors() {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			bin := pgtest.BinDir(t, major)
			b := everyKind(major)
			seg := b.Segments()[0]
			dir := pgtest.TempDir(t)
			if err := os.WriteFile(filepath.Join(dir, seg.Name()), b.Bytes(seg), 0o644); err != nil {
				t.Fatal(err)
			}
			cmd := pgtest.Command(context.Background(), filepath.Join(bin, "pg_waldump"), "--stats=record",
				"-p", dir, "-t", "1", "-s", seg.Start().String(), "-e", b.Position().String())
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			var theirs, ours []string
			for _, m := range statsLine.FindAllStringSubmatch(string(out), -1) {
				theirs = append(theirs, m[1])
			}
			var r record.Reader
			r.ResetBytes(b.Bytes(seg), options(b))
			for r.Next() {
				rec := r.Record()
				if rec.RMGR == record.RMTransaction && rec.Info&0x80 != 0 {
					continue // counted with those that lack the bit
				}
				ours = append(ours, rec.RMGR.String()+"/"+rec.Name())
			}
			if d := cmp.Diff(theirs, ours); d != "" || len(ours) < 1000 {
				t.Errorf("%d names; pg_waldump's -, ours +\n%s", len(ours), d)
			}
		})
	}
}
