package verify

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
)

// compare holds what is there against what should be: what manifests, other snapshots of
// names, timelines and the last record tell. It returns what the catalogue says.
func (c *checker) compare(ctx context.Context) (*catalog.Snapshot, error) {
	for _, id := range keysOf(c.backups.manifests) {
		c.needs(c.backups.manifests[id])
	}
	snap, gaps, err := c.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	c.compareWAL(snap, gaps)
	if err := c.compareBackups(ctx); err != nil {
		return nil, err
	}
	for _, key := range keysOf(c.named) {
		if _, there := c.names[key]; !there {
			c.find(place{key: key, kind: KindNames}, "it does not exist, and snapshot "+c.named[key]+" refers to it", effect{harmless: harmlessBecause[KindNames]})
		}
	}
	c.superseded(snap)
	if err := c.compareRecord(ctx, snap); err != nil {
		return nil, err
	}
	return snap, c.missingRecord(ctx)
}

// needs notes the packs and tables of a manifest, and lets go of what is not needed of it.
func (c *checker) needs(m *basebackup.Manifest) {
	for _, p := range m.Packs {
		c.backups.need(KindPack, basebackup.PackKey(c.inc, p.Backup, p.Number), p.Digest, p.Size, m.ID)
	}
	for _, t := range m.Shards {
		c.backups.need(KindTable, basebackup.ShardKey(c.inc, t.Backup, t.Number), t.Digest, t.Size, m.ID)
	}
	// Findings that came before it was known who needs the object.
	for _, f := range c.findings {
		if f.Kind == KindPack || f.Kind == KindTable {
			f.effect.backups = c.backups.users(f.Object)
		}
	}
	m.Packs, m.Shards, m.BackupLabel = nil, nil, ""
}

// snapshot takes the catalogue's overview. WAL that is missing before newer WAL is
// looked for a while before that is believed.
func (c *checker) snapshot(ctx context.Context) (*catalog.Snapshot, []catalog.Gap, error) {
	deadline := time.Now().Add(c.o.Patience)
	for pause := 100 * time.Millisecond; ; pause *= 2 {
		snap, err := c.reader.Load(ctx)
		if err != nil {
			return nil, nil, err
		}
		gaps := snap.Gaps()
		if len(gaps) == 0 || c.o.Patience < 0 || time.Now().Add(pause).After(deadline) {
			return snap, gaps, nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}

// compareWAL notes gaps and histories that are missing.
func (c *checker) compareWAL(snap *catalog.Snapshot, gaps []catalog.Gap) {
	for _, g := range gaps {
		first, err := wal.ParseSegment(g.First, c.inc.SegmentSize)
		if err != nil {
			continue // it names what it listed
		}
		p := place{key: archive.SegmentKey(c.inc, first), kind: KindSegment}
		if g.Start != first.Start() {
			p = place{key: archive.FragmentKey(c.inc, archive.Fragment{Segment: first, From: int64(g.Start - first.Start()), To: c.inc.SegmentSize.Bytes()}), kind: KindFragment}
		}
		x := cut{g.Timeline, g.Start, g.End}
		next := first
		next.Number++
		if l := c.live[first]; l != nil && g.Segments == 1 && !snap.Has(next) {
			x.to = x.from // the segment was not complete: its end was never there
			for _, f := range l.Fragments {
				x.to = max(x.to, first.Start()+wal.LSN(f.To))
			}
		}
		c.find(p, g.String(), effect{cuts: []cut{x}, unless: "no backup needs this WAL"})
	}
	for _, t := range snap.Timelines {
		if t.HistoryState != catalog.HistoryMissing {
			continue
		}
		p := place{key: archive.HistoryKey(c.inc, t.ID), kind: KindHistory}
		c.find(p, fmt.Sprintf("it does not exist, and timeline %s is archived", t.ID), effect{history: t.ID})
	}
	// A timeline that others have passed through, and of which nothing is left.
	for _, tli := range keysOf(c.histories) {
		h, err := wal.ParseHistory(tli, []byte(c.histories[tli]))
		if err != nil {
			continue
		}
		for _, e := range h.Entries {
			if _, there := c.histories[e.Timeline]; there || e.Timeline == 1 {
				continue
			}
			p := place{key: archive.HistoryKey(c.inc, e.Timeline), kind: KindHistory}
			c.find(p, fmt.Sprintf("it does not exist, and timeline %s came from that timeline", tli), effect{history: e.Timeline})
		}
	}
}

// compareBackups holds the packs and tables that are there against those that
// manifests name, and finds backups that were never ended.
func (c *checker) compareBackups(ctx context.Context) error {
	for _, key := range keysOf(c.backups.needed) {
		n := c.backups.needed[key]
		o, there := c.backups.objects[key]
		by := "the manifest of backup " + n.by[0]
		p := place{key: key, kind: n.kind}
		switch {
		case !there:
			c.find(p, "it does not exist, and "+by+" names it", effect{backups: n.by})
		case o.sound && (hex.EncodeToString(o.digest[:]) != n.digest || o.size != n.size):
			c.find(p, "it is not the object that "+by+" was published with", effect{backups: n.by})
		}
	}
	for _, id := range c.backups.ids() {
		_, complete := c.backups.manifests[id]
		switch {
		case c.backups.damaged[id]:
		case complete && !c.backups.claims[id]:
			p := place{key: basebackup.ClaimKey(c.inc, id), kind: KindClaim}
			c.find(p, "it does not exist, and the backup's manifest does", effect{harmless: harmlessBecause[KindClaim]})
		case !complete:
			if err := c.unended(ctx, id); err != nil {
				return err
			}
		}
	}
	return c.unneeded()
}

// unended notes a backup without a manifest, unless it may be running.
func (c *checker) unended(ctx context.Context, id string) error {
	_, err := basebackup.Load(ctx, c.repo, c.inc, id)
	var none *basebackup.NotFoundError
	switch {
	case err != nil && isFault(err):
		return err
	case !errors.As(err, &none) || c.began.Sub(c.activity[id]) < settled:
		return nil // it was completed meanwhile, or is at work
	case c.recorded(id) != nil:
		return nil // it was complete: compareRecord tells
	}
	var t Tally
	for _, key := range c.objectsOf(id) {
		if c.backups.needed[key] == nil {
			t.add(c.backups.objects[key].size)
		}
	}
	waste := fmt.Sprintf("no moment is lost that could be restored before; %s of %d bytes are of no use to any backup", plural(t.Objects, "object", "objects"), t.Bytes)
	p := place{key: basebackup.ClaimKey(c.inc, id), kind: KindClaim}
	if !c.backups.claims[id] {
		if t.Objects > 0 {
			first := c.backups.objects[c.objectsOf(id)[0]]
			c.find(first.place, "it belongs to backup "+id+", of which there is neither a claim nor a manifest", effect{harmless: waste})
		}
		return nil
	}
	problem := "the backup was begun and has no manifest"
	if claim, err := basebackup.LoadClaim(ctx, c.repo, c.inc, id); err == nil {
		problem = fmt.Sprintf("the backup was begun at %s on %s (process %d) and has no manifest: it was cut off, or its manifest has gone",
			claim.Start.UTC().Format(time.RFC3339), claim.Host, claim.PID)
	} else if isFault(err) {
		return err
	}
	c.find(p, problem, effect{harmless: waste})
	return nil
}

// objectsOf are the packs and tables that a backup wrote, in order.
func (c *checker) objectsOf(id string) []string {
	var keys []string
	for key, o := range c.backups.objects {
		if o.place.backup == id {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// unneeded notes packs and tables of complete backups that no manifest names.
func (c *checker) unneeded() error {
	for _, key := range keysOf(c.backups.objects) {
		o := c.backups.objects[key]
		if _, complete := c.backups.manifests[o.place.backup]; complete && c.backups.needed[key] == nil {
			c.find(o.place, "no manifest names it", effect{harmless: fmt.Sprintf("no backup needs its %d bytes", o.size)})
		}
	}
	return nil
}

// superseded counts the fragments and roll-ups that others have replaced.
func (c *checker) superseded(snap *catalog.Snapshot) {
	for seg, l := range c.live {
		sealed := snap.Has(seg)
		if _, open := snap.LiveSegment(seg); open {
			sealed = false
		}
		for i, f := range l.Fragments {
			covered := slices.ContainsFunc(l.Fragments, func(o archive.StoredFragment) bool {
				return o.From <= f.From && o.To >= f.To && o.Fragment != l.Fragments[i].Fragment
			})
			if sealed || covered {
				c.tally.Superseded.add(f.Size)
			}
		}
	}
	for _, generations := range c.rolled {
		for range len(generations) - 1 {
			c.tally.Superseded.add(0)
		}
	}
}

// compareRecord finds what was there at an earlier verification and has gone since without
// anything that would have replaced it.
func (c *checker) compareRecord(ctx context.Context, snap *catalog.Snapshot) error {
	if c.old == nil || c.o.AcceptGone {
		return nil
	}
	for _, g := range c.old.Gone {
		if err := c.goneSince(ctx, snap, g); err != nil {
			return err
		}
	}
	for rest := range c.old.inventory.all() {
		if _, there := c.found.find(rest); there {
			continue
		}
		if err := c.goneSince(ctx, snap, goneObject{rest, c.old.Updated}); err != nil {
			return err
		}
	}
	return nil
}

// goneSince notes an object that was seen last at a time, unless it is there or was replaced.
func (c *checker) goneSince(ctx context.Context, snap *catalog.Snapshot, g goneObject) error {
	p := c.place(c.inc.Prefix() + g.Object)
	if _, there := c.found.find(g.Object); there {
		return nil
	}
	if replaced, err := c.replaced(ctx, snap, p); err != nil || replaced {
		return err
	}
	c.gone = append(c.gone, g)
	e := c.effectOf(p)
	if p.kind == KindFragment {
		start := p.fragment.Segment.Start()
		from := start
		if l := c.live[p.fragment.Segment]; l != nil {
			from = start + wal.LSN(c.liveOf(l).Covered())
		}
		e = effect{cuts: []cut{{p.fragment.Segment.Timeline, from, start + wal.LSN(p.fragment.To)}}, unless: e.unless}
	}
	c.find(p, "it was there when the repository was verified at "+g.Seen.Format(time.RFC3339)+", and has gone", e)
	return nil
}

// missingRecord finds out whether one of the last records has gone: they are
// numbered without a hole, and the last few stay.
func (c *checker) missingRecord(ctx context.Context) error {
	list, err := recordNumbers(ctx, c.repo, c.inc)
	if err != nil || len(list) == 0 {
		return err
	}
	for i := range min(uint32(keptRecords), list[0]) {
		if n := list[0] - i; !slices.Contains(list, n) {
			p := place{key: recordKey(c.inc, n), kind: KindRecord}
			c.find(p, fmt.Sprintf("it does not exist, or a later one has gone: of the last %d records one is missing", keptRecords), c.effectOf(p))
		}
	}
	return nil
}

// replaced reports whether it is in order that an object has gone.
func (c *checker) replaced(ctx context.Context, snap *catalog.Snapshot, p place) (bool, error) {
	switch p.kind {
	case KindUnknown:
		return true, nil
	case KindRollup:
		// Listed anew: one generation may have taken another's place meanwhile.
		refs, err := c.rollups.List(ctx, p.log.Timeline, p.log.Number, p.log.Number)
		return len(refs) > 0 && refs[0].Generation >= p.generation, err
	case KindFragment:
		if snap.Has(p.fragment.Segment) && snap.EndOf(p.fragment.Segment) >= p.fragment.Segment.Start()+wal.LSN(p.fragment.To) {
			return true, nil
		}
	case KindSegment:
		// One that is missing among others is told of as a gap.
		for _, f := range c.findings {
			for _, x := range f.effect.cuts {
				if x.timeline == p.file.Segment.Timeline && x.from <= p.file.Segment.Start() && p.file.Segment.Start() < x.to && f.Kind == KindSegment {
					return true, nil
				}
			}
		}
	case KindClaim, KindPack, KindTable:
		if c.flagged[p.key] {
			return true, nil
		}
		// A backup that was cut off removes what it wrote; of one that was complete the manifest
		// says what is missing.
		if c.recorded(p.backup) == nil || c.backups.manifests[p.backup] == nil {
			return true, nil
		}
	}
	// It may have appeared again while objects were listed.
	_, err := c.repo.Store().Stat(ctx, p.key)
	if err == nil || errors.Is(err, storage.ErrNotExist) {
		return err == nil, nil
	}
	return false, err
}

// liveOf is a segment's fragments without those that cannot be used, in their order.
func (c *checker) liveOf(l *archive.LiveSegment) archive.LiveSegment {
	out := archive.LiveSegment{Segment: l.Segment}
	for _, f := range l.Fragments {
		if !c.flagged[archive.FragmentKey(c.inc, f.Fragment)] {
			out.Fragments = append(out.Fragments, f)
		}
	}
	return ordered(out)
}

// ordered sorts fragments as LiveSegment wants them.
func ordered(l archive.LiveSegment) archive.LiveSegment {
	slices.SortFunc(l.Fragments, func(a, b archive.StoredFragment) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(b.To, a.To))
	})
	return l
}
