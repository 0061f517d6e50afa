package rollup

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/walden-pg/walden/internal/inorder"
	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/index"
)

// UpdateOptions say what Update does.
type UpdateOptions struct {
	// All makes every roll-up anew, also those that hold for all their segments.
	All bool
	// DryRun makes and deletes nothing. The segments are read all the same, so
	// that what would be found is found.
	DryRun bool
	// MinNew is how many segments the last log of a timeline must have that its
	// roll-up does not hold for; as long as there are fewer it is left. 0: one.
	MinNew int
	// Recent, if not 0, is how many logs of each timeline are looked at: of those that
	// have no roll-up, and of the last two, the newest. So it costs little to call
	// Update often.
	Recent int
	// Parallel bounds the requests under way at once; 0: 32.
	Parallel int
	// Progress, if not nil, is told after each log, by one goroutine.
	Progress func(LogReport)
}

// Action is what was done about a log's roll-up.
type Action string

// What Update does about a log.
const (
	// Built: it was made, for the first time or anew.
	Built Action = "built"
	// Current: it holds for all segments.
	Current Action = "current"
	// Left: the log is still growing, and few of its segments are new.
	Left Action = "left"
	// Removed: the log has no segments any more.
	Removed Action = "removed"
)

// LogReport says what was done about one log.
type LogReport struct {
	Timeline wal.TimelineID `json:"timeline"`
	// Log is the middle part of its segments' names.
	Log    string `json:"log"`
	Action Action `json:"action"`
	// Segments are those that are archived, New those of them that the roll-up
	// did not hold for.
	Segments int `json:"segments"`
	New      int `json:"new"`
	// Generation and StoredBytes are those of the roll-up that was made.
	Generation  uint32 `json:"generation,omitempty"`
	StoredBytes int64  `json:"stored_bytes,omitempty"`
}

// Finding is something that is wrong.
type Finding struct {
	// Object is the key of the object at fault.
	Object string `json:"object"`
	// Problem says what is wrong with it, in a sentence's part without a full stop.
	Problem string `json:"problem"`
}

// Report is what Update did.
type Report struct {
	// Logs are those whose roll-up was made, left or removed; Current is how many
	// others were in order.
	Logs    []LogReport `json:"logs"`
	Current int         `json:"current"`
	// Findings are damaged segments, neighbours that do not fit, and roll-ups that
	// were damaged or contradicted the segments.
	Findings []Finding `json:"findings"`
	// Undeleted are superseded roll-ups that could not be deleted, with the reason.
	// They do no harm.
	Undeleted []Finding `json:"undeleted"`
}

// updater is one run of Update.
type updater struct {
	store   *Store
	archive *archive.Archive
	o       UpdateOptions
	size    wal.SegmentSize
	report  *Report
}

// batch is how many logs are listed at a time: it bounds memory.
const batch = 64

// Update makes the roll-ups of all logs that have segments without one that
// holds for them, from the segments' own indexes, and removes those of logs that have gone. It
// may be killed, repeated, and run by several at once. What is damaged is told in the
// Report; an error means that the store could not be asked.
func Update(ctx context.Context, a *archive.Archive, s *Store, o UpdateOptions) (*Report, error) {
	if o.Parallel <= 0 {
		o.Parallel = 32
	}
	o.MinNew = max(o.MinNew, 1)
	u := &updater{store: s, archive: a, o: o, size: s.inc.SegmentSize, report: &Report{
		Logs: []LogReport{}, Findings: []Finding{}, Undeleted: []Finding{},
	}}
	tlis, err := a.Timelines(ctx)
	if err != nil {
		return u.report, err
	}
	rolled, err := s.Timelines(ctx)
	if err != nil {
		return u.report, err
	}
	tlis = append(tlis, rolled...)
	slices.Sort(tlis)
	for _, tli := range slices.Compact(tlis) {
		if err := u.timeline(ctx, tli); err != nil {
			return u.report, err
		}
	}
	return u.report, nil
}

// timeline brings the roll-ups of one timeline up to date.
func (u *updater) timeline(ctx context.Context, tli wal.TimelineID) error {
	// Roll-ups first: one that appears meanwhile is then not taken for one without segments.
	refs, err := u.store.List(ctx, tli, 0, 1<<32-1)
	if err != nil {
		return err
	}
	first, last, any, err := u.archive.Bounds(ctx, tli, 0)
	if err != nil {
		return err
	}
	seen := map[uint32]bool{}
	var blocks [][2]Log
	if any {
		blocks = u.blocks(tli, refs, first, last)
	}
	for _, b := range blocks {
		segments, _, err := u.archive.Files(ctx, tli, b[0].First(u.size), b[1].Last(u.size))
		if err != nil {
			return err
		}
		if err := u.logs(ctx, byLog(segments), refs, last, seen); err != nil {
			return err
		}
	}
	for _, ref := range refs {
		if !seen[ref.Number] && (u.o.Recent == 0 || !any || ref.Number < first) {
			u.remove(ctx, ref, append(slices.Clone(ref.Older), ref.Generation))
			u.done(LogReport{Timeline: tli, Log: logName(ref.Log), Action: Removed})
		}
	}
	return nil
}

// blocks are the logs to look at, from first to last, in runs of at most batch.
func (u *updater) blocks(tli wal.TimelineID, refs []Ref, first, last uint32) [][2]Log {
	var list [][2]Log
	add := func(n uint64) {
		l := Log{Timeline: tli, Number: uint32(n)}
		if k := len(list); k > 0 && n-uint64(list[k-1][0].Number) < batch && uint64(list[k-1][1].Number)+1 == n {
			list[k-1][1] = l
			return
		}
		list = append(list, [2]Log{l, l})
	}
	if u.o.Recent == 0 {
		for n := uint64(first); n <= uint64(last); n++ {
			add(n)
		}
		return list
	}
	var recent []uint64
	for n, k := uint64(last), len(refs); n+1 > uint64(first) && len(recent) < u.o.Recent; n-- {
		for k > 0 && uint64(refs[k-1].Number) > n {
			k--
		}
		if has := k > 0 && uint64(refs[k-1].Number) == n; !has || n+1 >= uint64(last) {
			recent = append(recent, n)
		}
		if n == 0 {
			break
		}
	}
	for _, n := range slices.Backward(recent) {
		add(n)
	}
	return list
}

func logName(l Log) string { return fmt.Sprintf("%08X", l.Number) }

// done reports on a log.
func (u *updater) done(r LogReport) {
	if r.Action == Current {
		u.report.Current++
	} else {
		u.report.Logs = append(u.report.Logs, r)
	}
	if u.o.Progress != nil {
		u.o.Progress(r)
	}
}

// byLog cuts a list of segments at the ends of logs.
func byLog(list []archive.Entry) [][]archive.Entry {
	var logs [][]archive.Entry
	for i, e := range list {
		if n := len(logs); i == 0 || LogOf(e.Segment) != LogOf(list[i-1].Segment) {
			logs = append(logs, list[i:i+1])
		} else {
			logs[n-1] = logs[n-1][:len(logs[n-1])+1]
		}
	}
	return logs
}

// existing is the roll-up that a log has.
type existing struct {
	ref     *Ref
	rollup  *Rollup // nil: none that can be used
	missing int     // segments it does not hold for
	damage  error
	damaged []Finding // segments
	misfits []Misfit
}

// logs brings a batch of logs up to date.
func (u *updater) logs(ctx context.Context, logs [][]archive.Entry, refs []Ref, last uint32, seen map[uint32]bool) error {
	have := make([]existing, len(logs))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(u.o.Parallel)
	for i, entries := range logs {
		l := LogOf(entries[0].Segment)
		seen[l.Number] = true
		g.Go(func() (err error) {
			k := slices.IndexFunc(refs, func(r Ref) bool { return r.Log == l })
			if k < 0 {
				have[i].missing = len(entries)
				return nil
			}
			have[i], err = u.examine(gctx, refs[k], entries)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, entries := range logs {
		if err := u.log(ctx, entries, have[i], last); err != nil {
			return err
		}
	}
	return nil
}

// examine reads a log's roll-up and counts the segments it does not hold for.
func (u *updater) examine(ctx context.Context, ref Ref, entries []archive.Entry) (existing, error) {
	x := existing{ref: &ref, missing: len(entries)}
	r, err := u.store.Load(ctx, ref)
	switch {
	case errors.Is(err, storage.ErrNotExist), errors.Is(err, ErrVersion):
		return x, nil // another has just replaced it, or it is to be replaced
	case err != nil && IsDamage(err):
		x.damage = err
		return x, nil
	case err != nil:
		return x, err
	}
	x.rollup = r
	for _, e := range entries {
		known, ok := r.Lookup(e.Segment.Number, Fingerprint(e))
		if ok && known.Damaged() {
			if ok, err = u.stillDamaged(ctx, &x, e); err != nil {
				return x, err
			}
		}
		if ok {
			x.missing--
		}
	}
	x.misfits, err = r.Misfits()
	return x, err
}

// stillDamaged looks once more at a segment that could not be read.
func (u *updater) stillDamaged(ctx context.Context, x *existing, e archive.Entry) (bool, error) {
	_, err := u.archive.Index(ctx, e.Segment)
	switch {
	case err == nil || errors.Is(err, storage.ErrNotExist):
		return false, nil
	case archive.IsStoreFault(err):
		return false, err
	}
	x.damaged = append(x.damaged, Finding{Object: archive.SegmentKey(u.store.inc, e.Segment), Problem: err.Error()})
	return true, nil
}

// log brings one log up to date.
func (u *updater) log(ctx context.Context, entries []archive.Entry, have existing, last uint32) error {
	l := LogOf(entries[0].Segment)
	report := LogReport{Timeline: l.Timeline, Log: logName(l), Segments: len(entries), New: have.missing}
	if have.damage != nil {
		u.find(u.store.Key(l, have.ref.Generation), have.damage)
	}
	growing := l.Number == last && uint64(len(entries)) < u.size.SegmentsPerLog()
	switch {
	case u.o.All || have.damage != nil:
	case have.missing == 0:
		report.Action = Current
	case growing && have.missing < u.o.MinNew:
		report.Action = Left
	}
	if report.Action != "" {
		u.report.Findings = append(u.report.Findings, have.damaged...)
		for _, m := range have.misfits {
			u.find(archive.SegmentKey(u.store.inc, m.Segment), m.Err)
		}
		u.done(report)
		return nil
	}
	r, err := u.build(ctx, l, entries)
	if err != nil {
		return err
	}
	u.contradictions(have, r)
	report.Action = Built
	if !u.o.DryRun {
		report.Generation, report.StoredBytes, err = u.publish(ctx, r, have.ref)
	}
	u.done(report)
	return err
}

func (u *updater) find(object string, problem error) {
	u.report.Findings = append(u.report.Findings, Finding{Object: object, Problem: problem.Error()})
}

// read is a segment's index, or what is wrong with it.
type read struct {
	ix  *index.Index
	err error
}

// build makes the roll-up of a log from its segments.
func (u *updater) build(ctx context.Context, l Log, entries []archive.Entry) (*Rollup, error) {
	b := NewBuilder(l, u.size, u.store.inc.SystemID)
	err := inorder.Do(ctx, len(entries), u.o.Parallel, func(ctx context.Context, i int) (read, error) {
		ix, err := u.archive.Index(ctx, entries[i].Segment)
		if err != nil && archive.IsStoreFault(err) {
			return read{}, err
		}
		return read{ix, err}, nil
	}, func(i int, got read) error {
		key := archive.SegmentKey(u.store.inc, entries[i].Segment)
		switch {
		case errors.Is(got.err, storage.ErrNotExist): // it was deleted meanwhile
			return nil
		case got.err != nil:
			u.find(key, got.err)
			b.Skip(entries[i].Segment, Fingerprint(entries[i]))
			return nil
		}
		misfit, err := b.Add(got.ix, Fingerprint(entries[i]))
		if misfit != nil {
			u.find(key, misfit)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the indexes of log %s: %w", l, err)
	}
	return b.Finish(), nil
}

// contradictions finds what an earlier roll-up said otherwise of the same objects.
func (u *updater) contradictions(have existing, r *Rollup) {
	if have.rollup == nil {
		return
	}
	for _, e := range r.entries {
		old, ok := have.rollup.Lookup(e.Segment.Number, e.Fingerprint)
		if ok && !old.Damaged() && string(old.compact) != string(e.compact) {
			u.find(u.store.Key(r.Log, have.ref.Generation), fmt.Errorf("it contradicts segment %s", e.Segment.Name()))
		}
	}
}

// publish stores a roll-up as the next generation, and deletes the ones before.
func (u *updater) publish(ctx context.Context, r *Rollup, ref *Ref) (generation uint32, stored int64, err error) {
	for range 8 {
		generation = 1
		if ref != nil {
			generation = ref.Generation + 1
		}
		stored, err = u.store.Put(ctx, r, generation)
		if !errors.Is(err, storage.ErrExist) {
			break
		}
		// Another came first, or it is ours and the reply was lost. What it knew may be less.
		refs, listErr := u.store.List(ctx, r.Log.Timeline, r.Log.Number, r.Log.Number)
		if listErr != nil {
			return 0, 0, listErr
		}
		if len(refs) == 1 {
			ref = &refs[0]
		}
	}
	if err == nil && ref != nil {
		u.remove(ctx, *ref, append(slices.Clone(ref.Older), ref.Generation))
	}
	return generation, stored, err
}

// remove deletes generations.
func (u *updater) remove(ctx context.Context, ref Ref, generations []uint32) {
	if u.o.DryRun {
		return
	}
	for _, generation := range generations {
		if err := u.store.Delete(ctx, ref.Log, generation); err != nil {
			u.report.Undeleted = append(u.report.Undeleted, Finding{Object: u.store.Key(ref.Log, generation), Problem: err.Error()})
		}
	}
}
