//go:build unix

package stream_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/stream"
)

// pair is a connection string of a primary and its standby.
func pair(a, b *pgtest.Cluster, user string) string {
	return fmt.Sprintf("host=%s,%s port=%d,%d user=%s dbname=postgres target_session_attrs=read-write",
		a.SocketDir(), b.SocketDir(), a.Port(), b.Port(), user)
}

// TestFailover: the stream follows from a primary to its promoted standby, where
// a slot has waited for it, and nothing between the timelines is missing.
func TestFailover(t *testing.T) {
	for _, major := range pgtest.Majors() {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			primary := pgtest.New(t, pgtest.Options{Major: major, SegmentSizeMB: 1, Settings: map[string]string{"autovacuum": "off"}})
			standby := primary.Standby("second")
			g := newRig(t, primary, nil)
			g.o.Conninfo = pair(primary, standby, primary.QueryValue("SELECT current_user"))
			r := g.start()
			work(primary, 3)
			r.caughtUp(primary)
			standby.WaitFor("the slot on the standby", func() bool { return slotAt(standby) != "" })
			work(primary, 2)
			// The standby falls behind: what comes now is stranded.
			standby.WaitReplayed(primary)
			standby.Stop(pgtest.Fast)
			work(primary, 1)
			end := r.caughtUp(primary)
			primary.Kill()
			standby.Start()
			standby.Promote()
			work(standby, 3)
			r.until("the new timeline", func(s stream.Status) bool { return s.Timeline == 2 })
			after := r.caughtUp(standby)
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}

			h, err := g.archive.History(t.Context(), 2)
			if err != nil {
				t.Fatal(err)
			}
			parent, _ := h.Parent()
			if parent.End >= end {
				t.Fatalf("nothing was stranded: the timeline was left at %s, received was %s", parent.End, end)
			}
			if old := g.extent(1); old.End != end {
				t.Errorf("of the old timeline %s are archived, %s were received", old.End, end)
			}
			begin := wal.SegmentAt(2, parent.End, segmentSize).Start()
			if e := g.extent(2); e.Begin != begin || e.End < after {
				t.Errorf("of the new timeline %s to %s are archived, it began at %s and is at %s", e.Begin, e.End, parent.End, after)
			}
			g.compare(2, begin, after, standby.DataDir())
		})
	}
}

// TestFollowPromotion: a stream from a standby follows when it is promoted.
func TestFollowPromotion(t *testing.T) {
	primary := newCluster(t, pgtest.Newest())
	standby := primary.Standby("second")
	g := newRig(t, primary, nil)
	g.o.Conninfo = standby.Conninfo("postgres")
	r := g.start()
	work(primary, 3)
	standby.WaitReplayed(primary)
	r.caughtUp(standby)
	primary.Stop(pgtest.Fast)
	standby.Promote()
	work(standby, 2)
	r.until("the new timeline", func(s stream.Status) bool { return s.Timeline == 2 })
	after := r.caughtUp(standby)
	if s := r.Status(); len(s.Gaps) != 0 {
		t.Errorf("status %+v", s)
	}
	if e := g.extent(2); e.End < after {
		t.Errorf("archived up to %s, the server is at %s", e.End, after)
	}
	// The next receiver knows all of it from the repository.
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = g.start()
	work(standby, 1)
	after = r.caughtUp(standby)
	g.compare(2, g.extent(2).Begin, after, standby.DataDir())
	if _, err := g.archive.History(t.Context(), 3); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("history of timeline 3: %v", err)
	}
}

// TestTwoReceivers agree byte for byte, each with a slot of its own.
func TestTwoReceivers(t *testing.T) {
	g := newRig(t, newCluster(t, pgtest.Newest()), nil)
	first := g.start()
	g.o.Slot = "other"
	second := g.start()
	work(g.server, 6)
	first.caughtUp(g.server)
	end := second.caughtUp(g.server)
	for _, r := range []*running{first, second} {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	}
	e := g.extent(1)
	g.compare(1, e.Begin, end, g.server.DataDir())
}

// TestStandbyBehind: a standby that has not got what is archived is no reason to
// wait when the receiver is to end. That nothing was received from it is told.
func TestStandbyBehind(t *testing.T) {
	for _, far := range []bool{false, true} {
		t.Run(fmt.Sprintf("by segments %v", far), func(t *testing.T) {
			primary := newCluster(t, pgtest.Newest())
			standby := primary.Standby("second")
			g := newRig(t, primary, nil)
			g.o.StopTimeout = time.Hour
			r := g.start()
			work(primary, 2)
			primary.Exec("SELECT pg_switch_wal()") // what follows has room in one segment
			primary.Exec("INSERT INTO work (filler) SELECT 'some'")
			standby.WaitReplayed(primary)
			has := flushed(t, standby)
			standby.Stop(pgtest.Fast)
			primary.Exec("INSERT INTO work (filler) SELECT 'more'")
			if far {
				work(primary, 10)
			}
			end := r.caughtUp(primary)
			if err := r.ends(); err != nil {
				t.Fatal(err)
			}
			if same := segmentSize.Number(has) == segmentSize.Number(end); same == far {
				t.Fatalf("the standby is at %s, archived is up to %s", has, end)
			}
			primary.Kill()
			standby.Start()
			g.o.Conninfo = standby.Conninfo("postgres")
			r = g.start()
			r.until("the standby to be asked", func(s stream.Status) bool { return s.Connections > 0 })
			time.Sleep(500 * time.Millisecond) // it may take a while to be told, and to receive
			var behind *stream.BehindError
			if err := r.ends(); errors.As(err, &behind) != far || !far && err != nil {
				t.Errorf("Run returned %v", err)
			}
			if s := r.Status(); s.Pending != 0 || len(s.Gaps) != 0 {
				t.Errorf("status %+v", s)
			}
		})
	}
}

// TestSlotOnAnotherTimeline: a host that was promoted by itself keeps its WAL: what is
// archived at the same positions is that of another timeline.
func TestSlotOnAnotherTimeline(t *testing.T) {
	for _, major := range pgtest.Majors() {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			primary := newCluster(t, major)
			standby := primary.Standby("second")
			g := newRig(t, primary, nil)
			g.o.Conninfo = strings.Replace(pair(primary, standby, primary.QueryValue("SELECT current_user")), "read-write", "any", 1)
			var log bytes.Buffer
			g.o.Logger = logTo(&log)
			r := g.start()
			work(primary, 1)
			r.caughtUp(primary)
			standby.WaitFor("the slot on the standby", func() bool { return slotAt(standby) != "" })
			standby.WaitReplayed(primary)
			standby.Promote()
			left, err := wal.ParseLSN(standby.QueryValue("SELECT pg_current_wal_lsn()"))
			if err != nil {
				t.Fatal(err)
			}
			work(standby, 4)
			work(primary, 6)
			r.caughtUp(primary)
			time.Sleep(12 * time.Second) // one round of the slots at least
			if at, err := wal.ParseLSN(slotAt(standby)); err != nil || at > left {
				t.Errorf("the slot of the promoted host is at %s, it left the timeline at %s, %v", at, left, err)
			}
			if err := r.ends(); err != nil {
				t.Error(err)
			}
			if !strings.Contains(log.String(), "does not lead to timeline") {
				t.Errorf("nothing is told:\n%s", &log)
			}
		})
	}
}
