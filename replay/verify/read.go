package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/internal/inorder"
	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/index"
	"github.com/walden-pg/walden/wal/names"
	walrecord "github.com/walden-pg/walden/wal/record"
	"github.com/walden-pg/walden/wal/rollup"
)

// stride is how many objects of a run are read before what was read is noted.
const stride = 64

// reading is the state of reading objects whole.
type reading struct {
	c    *checker
	snap *catalog.Snapshot
	kept time.Time // when the last record was left

	mu sync.Mutex
	// tables are the backups whose tables have been checked.
	tables map[string]*checkedTables
}

type checkedTables struct {
	once sync.Once
	err  error
}

// read reads every object whole that is due, those first that were read the longest
// time ago; and in the quick form those that were found wanting before.
func (c *checker) read(ctx context.Context, snap *catalog.Snapshot) error {
	r := &reading{c: c, snap: snap, kept: time.Now(), tables: map[string]*checkedTables{}}
	if c.limit == 0 {
		return r.suspects(ctx)
	}
	for _, when := range c.found.times(c.limit) {
		for _, dir := range c.found.order {
			if err := r.directory(ctx, dir, when); err != nil {
				return err
			}
		}
	}
	if err := r.manifests(ctx); err != nil {
		return err
	}
	return r.live(ctx)
}

// suspects reads the objects again that an earlier run found wanting.
func (r *reading) suspects(ctx context.Context) error {
	c := r.c
	if c.old == nil {
		return nil
	}
	live := false
	for _, rest := range c.old.Suspects {
		if _, there := c.found.find(rest); !there {
			continue
		}
		dir, name := split(rest)
		if _, err := r.objects(ctx, dir, []string{name}, nil); err != nil {
			return err
		}
		live = live || strings.HasPrefix(rest, "live/")
	}
	if !live {
		return nil
	}
	return r.live(ctx)
}

// manifests checks the tables of those backups again that were found wanting: the tables
// themselves were in order, and may not be due.
func (r *reading) manifests(ctx context.Context) error {
	if r.c.old == nil {
		return nil
	}
	for _, rest := range r.c.old.Suspects {
		p := r.c.place(r.c.inc.Prefix() + rest)
		if _, there := r.c.found.find(rest); !there || p.kind != KindManifest || r.c.flagged[p.key] {
			continue
		}
		s := seen{place: p}
		if err := r.c.judge(&s, r.readTablesOf(ctx, p.backup)); err != nil {
			return err
		}
		r.blame(s)
	}
	return nil
}

// directory reads the objects of a directory that were last read at a time.
func (r *reading) directory(ctx context.Context, dir string, when int64) error {
	runs := r.c.found.dirs[dir]
	var done []run
	for i, x := range runs {
		if x.read != when {
			done = append(done, x)
			continue
		}
		rest := runs[i+1:]
		for x.first != "" {
			var list []string
			next := ""
			for name := range x.names() {
				if len(list) == stride {
					next = name
					break
				}
				list = append(list, name)
			}
			var err error
			if done, err = r.objects(ctx, dir, list, done); err != nil {
				return err
			}
			// What is noted is whole at any time: a record can be left.
			x.first = next
			now := append([]run{}, done...)
			if next != "" {
				now = append(now, x)
			}
			r.c.found.dirs[dir] = append(now, rest...)
			if err := r.keep(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// objects reads objects of one directory and appends what became of them to done.
func (r *reading) objects(ctx context.Context, dir string, list []string, done []run) ([]run, error) {
	c := r.c
	places, known := make([]place, len(list)), make([]bool, len(list))
	for i, name := range list {
		places[i] = c.place(c.inc.Prefix() + dir + name)
		known[i] = c.flagged[places[i].key] // before goroutines run: use adds to it
	}
	err := inorder.Do(ctx, len(list), c.o.Readers, func(ctx context.Context, i int) (seen, error) {
		s := seen{place: places[i]}
		if known[i] {
			return s, nil
		}
		f, err := r.object(ctx, s.place)
		s.footer, s.whole = f, err == nil
		return s, c.judge(&s, err)
	}, func(i int, s seen) error {
		read := int64(0)
		if s.whole {
			read = c.began.UnixMilli()
			c.tally.Read.add(s.footer.StoredSize())
			c.progress(Progress{Phase: Reading, Bytes: c.tally.Read.Bytes, TotalBytes: c.tally.Due.Bytes})
		}
		done = appendRun(done, list[i], read)
		r.blame(s)
		return nil
	})
	return done, err
}

// blame notes what is wrong with an object, or with another that was found out by it.
func (r *reading) blame(s seen) {
	if s.damage == nil {
		return
	}
	var (
		container *frame.Error
		content   *basebackup.FormatError
		listed    *basebackup.MismatchError
	)
	p := s.place
	switch {
	case errors.As(s.damage, &container) && strings.HasPrefix(container.Object, r.c.inc.Prefix()):
		p = r.c.place(container.Object)
	case errors.As(s.damage, &content) && strings.HasPrefix(content.Object, r.c.inc.Prefix()):
		p = r.c.place(content.Object)
	case errors.As(s.damage, &listed) && p.kind == KindTable && len(r.c.backups.users(p.key)) > 0:
		p = r.c.place(basebackup.ManifestKey(r.c.inc, r.c.backups.users(p.key)[0]))
	}
	r.c.find(p, problemOf(s.damage), r.c.effectOf(p))
}

// object reads one object whole and checks what can be checked of it.
func (r *reading) object(ctx context.Context, p place) (frame.Footer, error) {
	c := r.c
	if p.kind == KindNames {
		_, f, err := names.Verify(ctx, c.repo, c.inc, p.names, true)
		return f, err
	}
	obj, err := c.repo.Open(ctx, p.key, p.kind.container())
	if err != nil {
		return frame.Footer{}, err
	}
	switch p.kind {
	case KindSegment, KindPartial:
		err = c.rederive(ctx, p, obj)
	case KindRollup:
		if err = obj.Verify(ctx); err == nil {
			err = c.readRollup(ctx, p)
		}
	case KindManifest:
		if err = obj.Verify(ctx); err == nil {
			err = r.readTablesOf(ctx, p.backup)
		}
	case KindTable:
		if err = obj.Verify(ctx); err == nil {
			err = r.readTables(ctx, p)
		}
	default:
		err = obj.Verify(ctx)
	}
	return obj.Footer(), err
}

// readTables checks the tables of all backups that need this one, once each.
func (r *reading) readTables(ctx context.Context, p place) error {
	for _, id := range r.c.backups.users(p.key) {
		if err := r.readTablesOf(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// readTablesOf checks the tables of a backup, once.
func (r *reading) readTablesOf(ctx context.Context, id string) error {
	r.mu.Lock()
	t := r.tables[id]
	if t == nil {
		t = &checkedTables{}
		r.tables[id] = t
	}
	r.mu.Unlock()
	t.once.Do(func() { t.err = r.c.readTables(ctx, id) })
	return t.err
}

// forward is bytes that arrive in order, as an io.ReaderAt for one who reads them so.
type forward struct {
	r        io.Reader
	at, size int64
}

// ReadAt implements io.ReaderAt.
func (f *forward) ReadAt(p []byte, off int64) (int, error) {
	switch {
	case off >= f.size:
		return 0, io.EOF
	case off != f.at:
		return 0, fmt.Errorf("read at %d: only what comes next can be read, at %d", off, f.at)
	}
	n, err := io.ReadFull(f.r, p[:min(int64(len(p)), f.size-off)])
	f.at += int64(n)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// rederive reads a segment or a partial segment whole, derives its index from its WAL again, and compares.
func (c *checker) rederive(ctx context.Context, p place, obj *frame.Object) error {
	complete := p.kind == KindSegment
	if _, err := c.indexOf(obj, p.file.Segment, complete); err != nil {
		return err
	}
	var (
		built    *index.Index
		buildErr error
		done     = make(chan struct{})
	)
	in, out := io.Pipe()
	go func() {
		defer close(done)
		built, buildErr = index.Build(&forward{r: in, size: obj.Size()}, p.file.Segment, index.Options{SystemID: c.inc.SystemID, Complete: complete})
		_, _ = io.Copy(io.Discard, in) // the rest is verified all the same; VerifyTo has the error
	}()
	err := obj.VerifyTo(ctx, out)
	_ = out.CloseWithError(err) // never fails
	<-done
	if err != nil {
		return err
	}
	if buildErr != nil {
		return buildErr
	}
	for _, s := range built.Sections() {
		if have, ok := obj.Section(s.Type); !ok || !bytes.Equal(have, s.Data) {
			return fmt.Errorf("section %#x of its index does not say what its WAL says", s.Type)
		}
	}
	return nil
}

// readRollup holds a roll-up against the indexes of its segments.
func (c *checker) readRollup(ctx context.Context, p place) error {
	r, err := c.rollups.Load(ctx, rollupRef(p))
	if err != nil {
		return err
	}
	listed, _, err := c.archive.Files(ctx, p.log.Timeline, p.log.First(r.Size), p.log.Last(r.Size))
	if err != nil {
		return err
	}
	b := rollup.NewBuilder(r.Log, r.Size, r.SystemID)
	comparable := len(listed) == len(r.Entries())
	err = inorder.Do(ctx, len(listed), c.o.Parallel, func(ctx context.Context, i int) (*index.Index, error) {
		e, ok := r.Lookup(listed[i].Segment.Number, rollup.Fingerprint(listed[i]))
		if !ok {
			return nil, nil // it holds for another object: it is stale, and nobody believes it
		}
		ix, err := c.archive.Index(ctx, listed[i].Segment)
		if err != nil {
			if isFault(err) {
				return nil, err
			}
			return nil, nil // it is told of in its own place
		}
		said, err := e.Index()
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(said.EncodeCompact(), ix.EncodeCompact()) {
			return nil, &rollup.DamagedError{Object: p.key, Err: fmt.Errorf("it contradicts segment %s", ix.Segment.Name())}
		}
		return ix, nil
	}, func(i int, ix *index.Index) error {
		if ix == nil {
			comparable = false
			return nil
		}
		_, err := b.Add(ix, rollup.Fingerprint(listed[i]))
		return err
	})
	if err == nil && comparable && !bytes.Equal(b.Finish().Encode(), r.Encode()) {
		err = &rollup.DamagedError{Object: p.key, Err: errors.New("it is not what its segments make")}
	}
	return err
}

// live reads the segments that are not sealed from their fragments, and joins them to
// the segments before.
func (r *reading) live(ctx context.Context) error {
	c := r.c
	for _, t := range r.snap.Timelines {
		for _, l := range t.Live {
			seg := r.snap.Segment(t.ID, l.Number)
			have := c.live[seg]
			if have == nil || l.Broken != "" || c.liveOf(have).Covered() < archive.MinCovered {
				continue
			}
			if err := r.liveSegment(ctx, c.liveOf(have)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *reading) liveSegment(ctx context.Context, l archive.LiveSegment) error {
	c := r.c
	p := place{key: archive.FragmentKey(c.inc, l.Fragments[0].Fragment), kind: KindFragment, fragment: l.Fragments[0].Fragment}
	e := effect{cuts: []cut{{l.Segment.Timeline, l.Segment.Start(), l.End()}}, unless: "no backup needs this WAL"}
	ix, err := c.archive.LiveIndex(ctx, l)
	s := seen{place: p}
	if err := c.judge(&s, err); err != nil || s.gone {
		return err // gone: others have replaced it
	}
	var (
		disagree *archive.DisagreementError
		fault    *walrecord.Error
	)
	switch {
	case errors.As(err, &disagree):
		p = c.place(disagree.Key)
	case errors.As(err, &fault):
		e.cuts[0].from = max(fault.LSN, l.Segment.Start())
	}
	if err != nil {
		c.find(p, problemOf(err), e)
		return nil
	}
	if l.Segment.Number == 0 {
		return nil
	}
	before := l.Segment
	before.Number--
	previous, err := c.archive.Index(ctx, before)
	if err != nil {
		if isFault(err) {
			return err
		}
		return nil // it is not sealed, on another timeline, or told of in its own place
	}
	if _, err := index.Join(previous, ix); err != nil {
		c.find(p, fmt.Sprintf("it does not continue segment %s: %v", before.Name(), err), e)
	}
	return nil
}

// keep leaves a record now and then, so that a run that is killed can be gone on with.
func (r *reading) keep(ctx context.Context) error {
	if r.c.o.NoRecord || time.Since(r.kept) < r.c.o.KeepEvery {
		return nil
	}
	r.kept = time.Now()
	return r.c.checkpoint(ctx, r.snap)
}
