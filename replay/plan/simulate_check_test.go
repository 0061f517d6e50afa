package plan_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/replay/plan"
	"github.com/walden-pg/walden/wal"
)

func (c *cluster) branch(tli wal.TimelineID) *branch { return c.branches[tli-1] }

// has reports whether recovery is given a segment, and up to where.
func (c *cluster) has(seg wal.Segment) (end wal.LSN, ok bool) {
	if end, ok = c.ends[seg]; ok {
		return end, true
	}
	return seg.End(), c.indexes[seg] != nil
}

// checkPlan lets PostgreSQL follow a plan, with nothing but the segments it names.
func (c *cluster) checkPlan(t *testing.T, context string, target plan.Target, p *plan.Plan) {
	t.Helper()
	first, _ := wal.ParseSegment(p.FirstSegment, segment)
	last, _ := wal.ParseSegment(p.LastSegment, segment)
	b := c.branch(p.Timeline)
	have := func(seg wal.Segment) (wal.LSN, bool) {
		end, ok := c.has(seg)
		return end, ok && seg.Number >= first.Number && seg.Number <= last.Number
	}
	s := p.Stop
	// What PostgreSQL is told and what was asked for must come to the same.
	told := c.recover(p.Backup, b, told(t, p), have)
	got := c.recover(p.Backup, b, target, have)
	if s.Evidence != nil {
		c.checkEvidence(t, context, target, p, told)
		got = told
	}
	if s.Subtransaction != 0 {
		if !c.isSubtransaction(b, s) || s.Subtransaction != target.XID || got.err != failsToReach {
			t.Errorf("%s: transaction %d is no subtransaction of %d, which PostgreSQL does not find: %+v", context, s.Subtransaction, s.XID, got)
		}
		got = told
	}
	if got != told {
		t.Errorf("%s: to the target PostgreSQL recovers as %+v, as it is told to %+v", context, got, told)
	}
	switch {
	case got.err != "" || got.stray:
		t.Errorf("%s: planned %+v, but PostgreSQL: %+v", context, s, got)
		return
	case got.replayed != s.End, target.Kind != plan.Latest && (s.Before != got.before || s.LSN != got.lsn):
		t.Errorf("%s: predicted %+v, but PostgreSQL stops at %+v", context, s, got)
	case got.kept != nil && (s.LastKept == nil || s.LastKept.XID != got.kept.xid || s.LastKept.LSN != got.kept.lsn):
		t.Errorf("%s: predicted to keep up to %+v, but it is %+v", context, s.LastKept, got.kept)
	case s.FirstLost != nil && (got.lost == nil || got.lost.lsn != s.FirstLost.LSN || got.lost.xid != s.FirstLost.XID):
		t.Errorf("%s: predicted to lose %+v first, but it is %+v", context, s.FirstLost, got.lost)
	case got.reads != last.Number && target.Kind != plan.Latest:
		t.Errorf("%s: the last segment is %s, but PostgreSQL needs number %d", context, p.LastSegment, got.reads)
	}
	if target.Kind == plan.Time && c.holdsLater(p.Backup, b, target) {
		t.Errorf("%s: backup %+v holds what the target excludes", context, p.Backup)
	}
	c.checkNewest(t, context, target, p)
}

// told is the target that a plan's settings give to PostgreSQL.
func told(t *testing.T, p *plan.Plan) plan.Target {
	t.Helper()
	target := plan.Target{Kind: plan.Latest, Exclusive: setting(p, "recovery_target_inclusive") == "false"}
	for _, name := range []string{"recovery_target", "recovery_target_name", "recovery_target_time", "recovery_target_xid"} {
		if setting(p, name) != "" {
			t.Errorf("the plan sets %s = %s", name, setting(p, name))
		}
	}
	if lsn := setting(p, "recovery_target_lsn"); lsn != "" {
		target.Kind, target.LSN = plan.LSN, mustLSN(t, lsn)
	}
	return target
}

func mustLSN(t *testing.T, s string) wal.LSN {
	t.Helper()
	l, err := wal.ParseLSN(s)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

const failsToReach = "recovery ended before configured recovery target was reached"

// checkEvidence: PostgreSQL fails to reach a time that is later than all
// transactions, and the plan keeps all of them.
func (c *cluster) checkEvidence(t *testing.T, context string, target plan.Target, p *plan.Plan, follows end) {
	t.Helper()
	b, s := c.branch(p.Timeline), p.Stop
	all := c.recover(p.Backup, b, target, c.has)
	late := s.Evidence.Time.After(target.Time) || target.Exclusive && s.Evidence.Time.Equal(target.Time)
	switch {
	case target.Kind != plan.Time || !late:
		t.Errorf("%s: evidence %+v shows nothing", context, s.Evidence)
	case all.err != failsToReach:
		t.Errorf("%s: stops at %+v on evidence, but PostgreSQL gets there: %+v", context, s, all)
	case (all.kept == nil) != (follows.kept == nil) || all.kept != nil && all.kept.lsn != follows.kept.lsn:
		t.Errorf("%s: keeps up to %+v, but the WAL that is there has %+v", context, follows.kept, all.kept)
	}
}

// isSubtransaction reports whether the record that stops recovery ends the
// subtransaction that the stop tells of.
func (c *cluster) isSubtransaction(b *branch, s plan.Stop) bool {
	return slices.ContainsFunc(b.log, func(l logged) bool {
		return l.lsn == s.LSN && l.xid == s.XID && slices.Contains(l.subs, s.Subtransaction)
	})
}

// topLevel is the transaction that a target's id belongs to.
func (b *branch) topLevel(target plan.Target) plan.Target {
	for _, l := range b.log {
		if target.Kind == plan.XID && slices.Contains(l.subs, target.XID) {
			target.XID = l.xid
		}
	}
	return target
}

// evidenced reports whether the WAL that recovery finds from a backup on shows that a time has passed.
func (c *cluster) evidenced(k catalog.Backup, b *branch, target plan.Target) bool {
	all := c.recover(k, b, plan.Target{Kind: plan.Latest}, c.has)
	return all.err == "" && slices.ContainsFunc(b.log, func(l logged) bool {
		late := l.stamp.After(target.Time) || (target.Exclusive && l.stamp.Equal(target.Time))
		return l.lsn >= k.StartLSN && l.end <= all.replayed && late
	})
}

// holdsLater reports whether a backup holds a transaction that is too late for
// a time. PostgreSQL does not look.
func (c *cluster) holdsLater(k catalog.Backup, b *branch, target plan.Target) bool {
	return slices.ContainsFunc(b.log, func(l logged) bool {
		late := l.time.After(target.Time) || (target.Exclusive && l.time.Equal(target.Time))
		return l.kind == endOfTransaction && l.lsn < k.StartLSN && late
	})
}

// serves reports whether PostgreSQL would bring a backup to the target, and
// the plan could know it.
func (c *cluster) serves(k catalog.Backup, b *branch, target plan.Target) bool {
	got := c.recover(k, b, b.topLevel(target), c.has)
	if got.err == failsToReach && target.Kind == plan.Time && c.evidenced(k, b, target) {
		got.err = ""
	}
	if got.err != "" || got.stray {
		return false
	}
	switch target.Kind {
	case plan.Time:
		return !c.holdsLater(k, b, target) && !target.Time.Before(k.StartTime.Add(3*time.Second))
	case plan.LSN:
		return target.LSN >= k.StopLSN // of positions before, the index does not tell
	case plan.Latest:
		path, err := c.snapshot.Path(b.Timeline())
		last, ok := c.snapshot.LastOn(path)
		damaged := slices.ContainsFunc(c.damaged, func(seg wal.Segment) bool {
			return path.Segment(seg.Number) == seg && seg.Number >= segment.Number(k.StartLSN)
		})
		return err == nil && ok && !damaged && len(c.snapshot.Holes(path, segment.Number(k.StartLSN), last)) == 0
	}
	return true
}

// checkNewest: no newer backup would have served.
func (c *cluster) checkNewest(t *testing.T, context string, target plan.Target, p *plan.Plan) {
	t.Helper()
	if target.Backup != "" {
		return
	}
	for _, k := range c.backups {
		if target.Timeline == plan.CurrentTimeline && k.Timeline != p.Timeline {
			continue
		}
		if k.StopLSN > p.Backup.StopLSN && c.serves(k, c.branch(p.Timeline), target) {
			t.Errorf("%s: chose backup %+v, but %+v is newer and serves", context, p.Backup, k)
		}
	}
}

// checkRefusal: no backup that the target allows would have served.
func (c *cluster) checkRefusal(t *testing.T, context string, target plan.Target, err error) {
	t.Helper()
	var ambiguous *plan.AmbiguousError
	if errors.As(err, &ambiguous) {
		if len(ambiguous.Points) < 2 {
			t.Errorf("%s: %v", context, err)
		}
		return
	}
	for _, k := range c.backups {
		if target.Backup != "" && target.Backup != k.ID {
			continue
		}
		tli := k.Timeline
		switch target.Timeline {
		case plan.CurrentTimeline:
		case "":
			tli = c.newest(target)
		default:
			tli, _ = wal.ParseTimelineID(target.Timeline)
		}
		if tli != 0 && c.serves(k, c.branch(tli), target) {
			t.Errorf("%s: refused with %v, but backup %+v serves: %+v", context, err, k, c.recover(k, c.branch(tli), target, c.has))
		}
	}
	c.checkNearest(t, context, err)
}

// newest is the highest timeline that a backup leads to; 0: none.
func (c *cluster) newest(target plan.Target) wal.TimelineID {
	for _, b := range slices.Backward(c.branches) {
		h := b.History()
		for _, k := range c.backups {
			if (target.Backup == "" || target.Backup == k.ID) && h.Contains(k.Timeline, k.CheckpointLSN) && h.Contains(k.StopTimeline, k.StopLSN-1) {
				return b.Timeline()
			}
		}
	}
	return 0
}

// checkNearest: windows of a refusal can be restored from one end to the other.
func (c *cluster) checkNearest(t *testing.T, context string, err error) {
	t.Helper()
	var e interface{ Reachable() []catalog.Window }
	if !errors.As(err, &e) {
		t.Errorf("%s: refused with %v", context, err)
		return
	}
	for _, w := range e.Reachable() {
		i := slices.IndexFunc(c.backups, func(k catalog.Backup) bool { return k.ID == w.Backups[0] })
		b := c.branch(w.Timeline)
		if slices.ContainsFunc(c.damaged, func(seg wal.Segment) bool {
			return seg.Start() < w.To.LSN && seg.End() > c.backups[i].StartLSN
		}) {
			continue // nobody has tried to read it
		}
		for _, l := range b.log {
			if l.kind != endOfTransaction || l.lsn < w.From.LSN || l.end > w.To.LSN {
				continue
			}
			got := c.recover(c.backups[i], b, plan.Target{Kind: plan.XID, XID: l.xid}, c.has)
			if got.err != "" && c.backups[i].StopLSN <= l.lsn {
				t.Errorf("%s: window %+v cannot be restored to %+v: %s", context, w, l, got.err)
				return
			}
		}
	}
}
