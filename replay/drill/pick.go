package drill

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/replay/find"
	"github.com/walden-pg/walden/replay/plan"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/index"
	"github.com/walden-pg/walden/wal/names"
)

// Pick is a way to choose a moment.
type Pick string

// The ways. Random moments lie between the oldest backup and the end of the WAL on the
// newest timeline, in a hole too: that is then found.
const (
	RandomTime   Pick = "random-time"
	RandomXID    Pick = "random-xid"
	LastDrop     Pick = "last-drop"     // just before the last table or database was dropped
	BeforeSwitch Pick = "before-switch" // just before the newest timeline begins
	AfterSwitch  Pick = "after-switch"  // just after its first record
)

// Picks are all there are.
func Picks() []Pick { return []Pick{RandomTime, RandomXID, LastDrop, BeforeSwitch, AfterSwitch} }

// ParsePick knows their names.
func ParsePick(s string) (Pick, error) {
	var names []string
	for _, p := range Picks() {
		if s == string(p) {
			return p, nil
		}
		names = append(names, string(p))
	}
	return "", fmt.Errorf("%q: it must be %s or %s", s, strings.Join(names[:len(names)-1], ", "), names[len(names)-1])
}

// PickError says that there is no such moment.
type PickError struct {
	Pick   Pick
	Reason string
}

// Error gives the reason.
func (e *PickError) Error() string {
	return fmt.Sprintf("no moment can be picked by %s: %s", e.Pick, e.Reason)
}

// Hint says what else can be done.
func (e *PickError) Hint() string {
	return "name a moment, or pick it otherwise; `walden list` shows what can be restored"
}

// archived is what is known of the archive when a drill begins.
type archived struct {
	repo     *repository.Repository
	inc      archive.Incarnation
	reader   *catalog.Reader
	snapshot *catalog.Snapshot
	windows  []catalog.Window // of the newest timeline that can be restored, in order
}

// look lists the archive.
func look(ctx context.Context, repo *repository.Repository, inc archive.Incarnation) (*archived, error) {
	a := &archived{repo: repo, inc: inc, reader: catalog.NewReader(repo, archive.New(repo, inc), 0)}
	var err error
	if a.snapshot, err = a.reader.Load(ctx); err != nil {
		return nil, err
	}
	if err := a.reader.Satisfy(ctx, a.snapshot, func() (catalog.Needs, error) { return a.snapshot.WindowNeeds(), nil }); err != nil {
		return nil, err
	}
	for _, w := range a.snapshot.Windows() {
		if n := len(a.windows); n > 0 && w.Timeline > a.windows[n-1].Timeline {
			a.windows = nil
		}
		a.windows = append(a.windows, w)
	}
	return a, nil
}

// prove plans a restore to the target.
func (a *archived) prove(ctx context.Context, t plan.Target) (*plan.Plan, error) {
	if err := a.reader.Satisfy(ctx, a.snapshot, func() (plan.Needs, error) { return plan.Need(a.snapshot, t) }); err != nil {
		return nil, err
	}
	return plan.Make(a.snapshot, t)
}

// pick chooses a moment. Of t Timeline and Backup count.
func (a *archived) pick(ctx context.Context, p Pick, t plan.Target) (plan.Target, error) {
	if len(a.windows) == 0 {
		return t, &PickError{p, "nothing can be restored"}
	}
	switch p {
	case RandomTime:
		return a.randomTime(t)
	case RandomXID:
		return a.randomXID(ctx, t)
	case LastDrop:
		return a.lastDrop(ctx, t)
	case BeforeSwitch, AfterSwitch:
		return a.timelineSwitch(p, t)
	}
	return t, fmt.Errorf("drill: unknown pick %q", p)
}

// bounds are the moments between which random ones lie; with a backup those behind it.
func (a *archived) bounds(backup string) (from, to catalog.Moment) {
	from, to = a.windows[0].From, a.windows[len(a.windows)-1].To
	if b, ok := a.snapshot.Backup(backup); ok && b.StopLSN > from.LSN {
		from = catalog.Moment{LSN: b.StopLSN, Time: &b.StopTime}
	}
	return from, to
}

func (a *archived) randomTime(t plan.Target) (plan.Target, error) {
	from, to := a.bounds(t.Backup)
	if from.Time == nil || to.Time == nil || !to.Time.After(*from.Time) {
		return t, &PickError{RandomTime, "no transaction has ended since the first backup, as far as the archive tells"}
	}
	t.Kind, t.Time = plan.Time, from.Time.Add(rand.N(to.Time.Sub(*from.Time))).Truncate(time.Microsecond)
	return t, nil
}

// A segment that is drawn may hold no commit: so many are looked at from there on.
const (
	looked = 512
	batch  = 16
)

// randomXID is a transaction that committed in a segment that was drawn, or near it.
func (a *archived) randomXID(ctx context.Context, t plan.Target) (plan.Target, error) {
	from, to := a.bounds(t.Backup)
	path, err := a.snapshot.Path(a.windows[0].Timeline)
	if err != nil {
		return t, err
	}
	size := a.inc.SegmentSize
	first, last := size.Number(from.LSN), size.PrevNumber(to.LSN)
	if last < first {
		return t, &PickError{RandomXID, "no WAL follows the backup"}
	}
	count := last - first + 1
	at := rand.N(count)
	for seen := uint64(0); seen < min(count, looked); seen += batch {
		var segs []wal.Segment
		for i := seen; i < min(seen+batch, count); i++ {
			if seg := path.Segment(first + (at+i)%count); a.snapshot.Has(seg) {
				segs = append(segs, seg)
			}
		}
		xid, err := a.anyCommit(ctx, segs, from.LSN, to.LSN)
		if err != nil || xid != 0 {
			t.Kind, t.XID = plan.XID, xid
			return t, err
		}
	}
	return t, &PickError{RandomXID, "no transaction has committed since the first backup, as far as the archive was looked through"}
}

// anyCommit draws from the commits of the first segment that has some; 0: none has.
func (a *archived) anyCommit(ctx context.Context, segs []wal.Segment, from, to wal.LSN) (xid uint32, err error) {
	err = a.reader.Read(ctx, a.snapshot, segs, func(_ wal.Segment, ix *index.Index, unreadable error) error {
		if unreadable != nil || xid != 0 {
			return nil //nolint:nilerr // the drill finds that, if it comes to it
		}
		var all []uint32
		for tx := range ix.Transactions() {
			if tx.XID != 0 && tx.Kind == index.Commit && tx.LSN >= from && tx.End <= to {
				all = append(all, tx.XID)
			}
		}
		if len(all) > 0 {
			xid = all[rand.N(len(all))]
		}
		return nil
	})
	return xid, err
}

func (a *archived) timelineSwitch(p Pick, t plan.Target) (plan.Target, error) {
	for i := len(a.snapshot.Timelines) - 1; i >= 0; i-- {
		line := a.snapshot.Timelines[i]
		if line.Parent == 0 || line.Switch == 0 || line.ID > a.windows[0].Timeline {
			continue
		}
		t.Kind, t.LSN, t.Exclusive = plan.LSN, line.Switch, p == BeforeSwitch
		t.Timeline = strconv.FormatUint(uint64(line.ID), 10)
		return t, nil
	}
	return t, &PickError{p, "the cluster has never switched to another timeline"}
}

// lastDrop is the moment before the last drop that a backup leads to.
func (a *archived) lastDrop(ctx context.Context, t plan.Target) (plan.Target, error) {
	known, err := names.Open(ctx, a.repo, a.inc, 0)
	if err != nil {
		return t, err
	}
	src := find.Source{
		Snapshot: a.snapshot,
		Read: func(ctx context.Context, segs []wal.Segment, use func(wal.Segment, *index.Index, error) error) error {
			return a.reader.Read(ctx, a.snapshot, segs, use)
		},
		Names: func(h wal.History) find.Names { return known.Resolver(ctx, h) },
	}
	var last *find.Event
	o := find.Options{Timeline: a.windows[0].Timeline, Kinds: []find.Kind{find.Drop, find.DropDatabase}}
	if _, err := find.Run(ctx, src, o, func(ev find.Event) error {
		if ev.Restorable {
			last = &ev
		}
		return nil
	}); err != nil {
		return t, err
	}
	if last == nil {
		return t, &PickError{LastDrop, "nothing was dropped since the first backup"}
	}
	t.Kind, t.LSN, t.Exclusive = plan.LSN, last.Before.LSN, last.Before.Exclusive
	t.Timeline = strconv.FormatUint(uint64(last.Before.Timeline), 10)
	return t, nil
}

// flags writes a target as on the command line.
func flags(t plan.Target) string {
	s := "--" + string(t.Kind)
	switch v := t.Value(); {
	case t.Kind == plan.Latest || t.Kind == plan.Immediate:
	case strings.ContainsAny(v, " '\"\\$`!*?"):
		s += " '" + strings.ReplaceAll(v, "'", `'\''`) + "'"
	default:
		s += " " + v
	}
	if t.Exclusive {
		s += " --exclusive"
	}
	if t.Timeline != "" && t.Timeline != plan.LatestTimeline {
		s += " --timeline " + t.Timeline
	}
	if t.Backup != "" {
		s += " --backup " + t.Backup
	}
	return s
}
