package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/rollup"
)

// Options say what Run does.
type Options struct {
	// Cluster whose objects are verified.
	Cluster string
	// Incarnation is the number of the only one to verify; 0: all.
	Incarnation int
	// Deep reads every object whole, and goes on with what an earlier deep run has
	// left if it was cut off in the last week and Restart is not set.
	Deep, Restart bool
	// UnverifiedFor, if above 0, reads only what has not been read whole for that long.
	UnverifiedFor time.Duration
	// MaxRate bounds what is read, in bytes a second; 0: no bound.
	MaxRate int64
	// AcceptGone takes what is there for what should be: objects that earlier verifications
	// have seen and that have gone are not told of, now and later.
	AcceptGone bool
	// NoRecord leaves no record in the repository, for who may only read it.
	NoRecord bool
	// Parallel is how many objects are looked at, Readers how many are read whole at a
	// time; 0: 32 and 4.
	Parallel, Readers int
	// Repository says how objects are read.
	Repository repository.Options
	// Patience is how long WAL that is missing before newer WAL is looked for: segments can be
	// stored out of order. Negative: not at all; 0: five seconds.
	Patience time.Duration
	// KeepEvery is how often a record is left while objects are read whole; 0: every minute.
	KeepEvery time.Duration
	// Progress, if not nil, is told now and then, by one goroutine.
	Progress func(Progress)
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Progress says how far a run has come.
type Progress struct {
	Phase Phase
	// Objects that were listed, while looking.
	Objects int64
	// Bytes that were read whole, and how many are to be, while reading.
	Bytes, TotalBytes int64
}

// Phase is what a run is doing.
type Phase string

// The phases.
const (
	Looking Phase = "looking at objects"
	Reading Phase = "reading objects"
)

const (
	// resumable is for how long a deep run that was cut off is gone on with.
	resumable = 7 * 24 * time.Hour
	// settled is for how long nothing must have been added to a backup that has no
	// manifest, before it counts as one that was cut off.
	settled = 6 * time.Hour
	// lastWords is how long a run that is interrupted tries to leave its record.
	lastWords = 10 * time.Second
)

// Run verifies what a repository holds of a cluster. The Report is valid also with an error,
// as far as it goes: then the store could not be asked, or ctx is done, and Report.Complete is
// false. What is wrong with objects is in Report.Findings, and is no error.
//
// A store without any object is a *repository.NoRepositoryError; a cluster of which
// there is nothing an *archive.NoIncarnationError.
func Run(ctx context.Context, store storage.Store, o Options) (*Report, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Parallel <= 0 {
		o.Parallel = 32
	}
	if o.Readers <= 0 {
		o.Readers = 4
	}
	if o.KeepEvery == 0 {
		o.KeepEvery = time.Minute
	}
	if o.Patience == 0 {
		o.Patience = 5 * time.Second
	}
	if o.MaxRate > 0 {
		store = storage.WithReadRate(store, o.MaxRate)
	}
	r := &Report{
		Cluster: o.Cluster, Deep: o.Deep || o.UnverifiedFor > 0, Began: o.Now().UTC(),
		Incarnations: []Incarnation{}, Findings: []Finding{}, Backups: []Validation{},
	}
	err := r.run(ctx, store, o)
	r.Ended = o.Now().UTC()
	if err != nil {
		r.Error = err.Error()
		return r, fmt.Errorf("the verification is incomplete: %w", err)
	}
	r.Complete = r.Error == ""
	return r, nil
}

func (r *Report) run(ctx context.Context, store storage.Store, o Options) error {
	repo, err := r.open(ctx, store, o)
	if repo == nil || err != nil {
		return err
	}
	places, err := archive.Places(ctx, repo.Store(), o.Cluster)
	if err != nil {
		return err
	}
	any := false
	for _, place := range places {
		if o.Incarnation != 0 && o.Incarnation != place.Number {
			continue
		}
		any = true
		if err := r.incarnation(ctx, repo, place, o); err != nil {
			return err
		}
	}
	if !any {
		return &archive.NoIncarnationError{Cluster: o.Cluster, Number: o.Incarnation}
	}
	return nil
}

// open opens the repository. Where that is not possible because of its descriptor, the
// finding is noted and nothing else can be verified: repo is nil.
func (r *Report) open(ctx context.Context, store storage.Store, o Options) (repo *repository.Repository, err error) {
	repo, err = repository.Open(ctx, store, o.Repository)
	var none *repository.NoRepositoryError
	switch {
	case err == nil:
	case errors.As(err, &none):
		id, any, look := anyObject(ctx, store)
		if look != nil {
			return nil, look
		}
		if !any {
			return nil, err
		}
		r.lost("it does not exist, but other objects do" + ofRepository(id))
		return nil, nil
	case isFault(err):
		return nil, err
	default:
		id, _, look := anyObject(ctx, store)
		if look != nil {
			return nil, look
		}
		r.lost(problemOf(err) + ofRepository(id))
		return nil, nil
	}
	// One that was replaced by another repository's is whole, and fits no object.
	id, any, err := anyObject(ctx, store)
	if err != nil {
		return nil, err
	}
	if any && id != [16]byte{} && id != repo.ID() {
		r.lost("it is that of repository " + repo.UUID() + ofRepository(id))
		return nil, nil
	}
	return repo, nil
}

func ofRepository(id [16]byte) string {
	if id == [16]byte{} {
		return ""
	}
	return "; the objects belong to repository " + repository.FormatID(id)
}

// lost notes that the descriptor is at fault.
func (r *Report) lost(problem string) {
	r.Error = "without " + repository.DescriptorKey + " nothing else can be verified"
	r.Findings = append(r.Findings, Finding{
		Object: repository.DescriptorKey, Kind: KindRepository, Problem: problem,
		Consequence: "no command opens this repository, and nothing can be restored, until a copy of " + repository.DescriptorKey + " is put back",
	})
}

// peeked is how many objects are looked at to learn whose they are.
const peeked = 16

// anyObject reads the footers of a few objects; id is the repository that most of them belong to,
// zero if none of them tells. any: there is an object.
func anyObject(ctx context.Context, store storage.Store) (id [16]byte, any bool, err error) {
	votes := map[[16]byte]int{}
	seen := 0
	for info, err := range store.List(ctx, "", "") {
		if err != nil {
			return id, any, err
		}
		if info.Key == repository.DescriptorKey || strings.HasPrefix(info.Key, repository.ProbePrefix) {
			continue
		}
		any = true
		f, err := frame.ReadFooter(ctx, frame.StoreRange(store, info.Key), frame.ReadOptions{Name: info.Key})
		if err != nil && isFault(err) {
			return id, any, err
		}
		if err == nil {
			votes[f.RepositoryID]++
		}
		if seen++; seen == peeked {
			break
		}
	}
	for v, n := range votes {
		if n > votes[id] {
			id = v
		}
	}
	return id, any, nil
}

// checker verifies one incarnation.
type checker struct {
	o       Options
	report  *Report
	repo    *repository.Repository
	inc     archive.Incarnation
	archive *archive.Archive
	rollups *rollup.Store
	reader  *catalog.Reader

	began   time.Time
	tally   Incarnation
	old     *record // nil: there is none
	found   *inventory
	limit   int64 // what was last read before is to be read, in milliseconds since 1970
	flagged map[string]bool
	findings,
	harmless []*Finding
	gone []goneObject

	wal     walState
	backups backupState
	live    map[wal.Segment]*archive.LiveSegment
	// partials are the ends of the WAL in the partial segments that are there.
	partials map[wal.Segment]wal.LSN
	// names are the snapshots of names that are there, named those that others refer to,
	// with one that does.
	names, named map[string]string
	rolled       map[rollup.Log][]uint32 // generations
	histories    map[wal.TimelineID]string
	// told are backups as backup history files tell of them.
	told map[string]catalog.Backup
	// activity is when the last object of a backup's was stored.
	activity map[string]time.Time
}

// incarnation verifies one incarnation and adds what it finds to the report.
func (r *Report) incarnation(ctx context.Context, repo *repository.Repository, place archive.Incarnation, o Options) error {
	c := &checker{
		o: o, report: r, repo: repo, inc: place, began: o.Now().UTC().Truncate(time.Millisecond),
		tally: Incarnation{Number: place.Number, SystemID: place.SystemID, Objects: map[Kind]Tally{}},
		found: newInventory(), flagged: map[string]bool{}, live: map[wal.Segment]*archive.LiveSegment{}, partials: map[wal.Segment]wal.LSN{},
		names: map[string]string{}, named: map[string]string{}, rolled: map[rollup.Log][]uint32{},
		histories: map[wal.TimelineID]string{}, told: map[string]catalog.Backup{}, activity: map[string]time.Time{},
		backups: newBackupState(),
	}
	err := c.run(ctx)
	for _, f := range c.all() {
		f.Incarnation = place.Number
		r.Findings = append(r.Findings, *f)
	}
	r.Incarnations = append(r.Incarnations, c.tally)
	return err
}

func (c *checker) run(ctx context.Context) error {
	inc, err := archive.ReadIdentity(ctx, c.repo, c.inc)
	switch {
	case err == nil:
		c.inc = inc
	case isFault(err):
		return err
	default:
		c.find(place{key: c.inc.IdentityKey(), kind: KindIdentity}, problemOf(err), effect{
			all: "no command finds this incarnation, and nothing of it can be restored, until a copy of this object is put back",
		})
		return c.shallow(ctx)
	}
	c.archive = archive.New(c.repo, c.inc)
	c.rollups = rollup.NewStore(c.repo, c.inc)
	c.reader = catalog.NewReader(c.repo, c.archive, c.o.Parallel)
	if c.old, err = newestRecord(ctx, c.repo, c.inc); err != nil {
		return err
	}
	c.setLimit()
	if err := c.look(ctx); err != nil {
		return err
	}
	snap, err := c.compare(ctx)
	if err != nil {
		return err
	}
	reading := c.read(ctx, snap)
	// What was found and read until now is told and kept also where it came to an early end.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	if reading == nil {
		last = ctx
	}
	if err := c.conclude(last, snap); err != nil {
		return errors.Join(reading, err)
	}
	return errors.Join(reading, c.leave(last, snap, reading == nil))
}

// setLimit decides which objects are to be read whole.
func (c *checker) setLimit() {
	if c.old != nil && !c.began.After(c.old.Began) {
		c.began = c.old.Began.Add(time.Millisecond) // what was read then was read before
	}
	switch {
	case c.o.UnverifiedFor > 0:
		c.limit = c.began.Add(-c.o.UnverifiedFor).UnixMilli()
	case c.o.Deep:
		c.limit = c.began.UnixMilli()
		if c.old != nil && c.old.Since != nil && !c.o.Restart && c.began.Sub(*c.old.Since) < resumable {
			c.tally.Since = c.old.Since
			c.limit = c.old.Since.UnixMilli()
		}
	}
}

// due reports whether an object is to be read whole that was last read at a time.
func (c *checker) due(read int64) bool { return read < c.limit }

// find notes a finding. Of one object only the first is noted.
func (c *checker) find(p place, problem string, e effect) {
	if c.flagged[p.key] {
		return
	}
	c.flagged[p.key] = true
	f := &Finding{Object: p.key, Kind: p.kind, Problem: problem, Consequence: e.all, effect: e}
	if e.harmless != "" {
		f.Harmless, f.Consequence = true, e.harmless
		c.harmless = append(c.harmless, f)
		return
	}
	c.findings = append(c.findings, f)
}

// all are the findings, the harmless ones last.
func (c *checker) all() []*Finding {
	all := slices.Concat(c.findings, c.harmless)
	slices.SortStableFunc(all, func(a, b *Finding) int {
		switch {
		case a.Harmless == b.Harmless:
			return 0
		case b.Harmless:
			return -1
		}
		return 1
	})
	return all
}

// leave publishes the record of the run.
func (c *checker) leave(ctx context.Context, snap *catalog.Snapshot, complete bool) error {
	backups := c.validated(snap)
	if c.o.NoRecord {
		return nil
	}
	r := c.newRecord(complete)
	r.Backups = backups
	all := c.all()
	for _, f := range all[:min(len(all), recordedFindings)] {
		r.Findings = append(r.Findings, *f)
	}
	return c.publish(ctx, r)
}

// checkpoint leaves a record of a run that goes on. Of backups it says what the last one
// said.
func (c *checker) checkpoint(ctx context.Context, snap *catalog.Snapshot) error {
	r := c.newRecord(false)
	for _, b := range snap.Backups {
		kept := recordedBackup{Backup: b, Validation: Validation{Incarnation: c.inc.Number, Backup: b.ID, State: Unverified}}
		if old := c.recorded(b.ID); old != nil {
			kept.Validation = old.Validation
		}
		r.Backups = append(r.Backups, kept)
	}
	return c.publish(ctx, r)
}

// newRecord begins a record: complete says that everything was read that was due.
func (c *checker) newRecord(complete bool) *record {
	r := &record{Format: recordFormat, Began: c.began, Updated: c.o.Now().UTC(), Backups: []recordedBackup{}, Gone: c.gone, inventory: c.found}
	switch whole := c.o.Deep && c.o.UnverifiedFor == 0; {
	case whole && complete:
	case whole && c.tally.Since != nil:
		r.Since = c.tally.Since
	case whole:
		r.Since = &c.began
	case c.old != nil:
		r.Since = c.old.Since // a deep run that waits is not forgotten
	}
	for _, f := range c.all() {
		rest := strings.TrimPrefix(f.Object, c.inc.Prefix())
		if _, there := c.found.find(rest); there {
			r.Suspects = append(r.Suspects, rest)
		}
	}
	if !complete && c.old != nil { // perhaps not looked at again yet
		r.Suspects = append(r.Suspects, c.old.Suspects...)
		slices.Sort(r.Suspects)
		r.Suspects = slices.Compact(r.Suspects)
	}
	for seg, end := range c.partials {
		r.Partials = append(r.Partials, recordedPartial{seg.Name(), end})
	}
	slices.SortFunc(r.Partials, func(a, b recordedPartial) int { return strings.Compare(a.Segment, b.Segment) })
	for _, tli := range keysOf(c.histories) {
		r.Histories = append(r.Histories, recordedHistory{tli, c.histories[tli]})
	}
	return r
}

func (c *checker) publish(ctx context.Context, r *record) error {
	if err := r.publish(ctx, c.repo, c.inc); err != nil {
		return err
	}
	c.tally.Record = recordKey(c.inc, r.number)
	return nil
}

// problemOf is what is wrong with an object, without its key.
func problemOf(err error) string {
	var (
		container *frame.Error
		content   *basebackup.FormatError
	)
	switch {
	case errors.Is(err, storage.ErrNotExist):
		return "it does not exist"
	case errors.As(err, &container):
		text := container.Kind.String() + ": " + container.Reason
		if container.Err != nil {
			text += ": " + container.Err.Error()
		}
		if container.Offset > 0 {
			text = fmt.Sprintf("%s (at offset %d)", text, container.Offset)
		}
		return text
	case errors.As(err, &content):
		return content.Reason
	}
	return err.Error()
}
