package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/index"
	"github.com/walden-pg/walden/wal/record"
)

// spoolDirectory is where the segments of one incarnation lie, under their own
// names, until they are in the repository. Of a segment that is not complete
// the file ends where what was received ends.
type spoolDirectory struct {
	dir  string
	lock *os.File
}

func newSpoolDirectory(root string, inc archive.Incarnation) *spoolDirectory {
	name := strconv.Itoa(inc.Number) + "-" + strconv.FormatUint(inc.SystemID, 10)
	return &spoolDirectory{dir: filepath.Join(root, inc.Cluster, name)}
}

// lockName is the file that a receiver holds locked while it uses the spool.
const lockName = "lock"

// BusyError says that another receiver uses the spool.
type BusyError struct{ Dir string }

// Error names the directory.
func (e *BusyError) Error() string {
	return fmt.Sprintf("spool %s: another walden stream uses it", e.Dir)
}

// Hint says what to do.
func (e *BusyError) Hint() string { return "stop the other one, or give this one another --spool" }

// open makes the directory and locks it.
func (d *spoolDirectory) open() error {
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	// Their names must be as durable as the files in them: those of root,
	// the cluster and the incarnation.
	parent := d.dir
	for range 3 {
		parent = filepath.Dir(parent)
		if err := syncDirectory(parent); err != nil && !errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("spool: %w", err)
		}
	}
	lock, err := os.OpenFile(filepath.Join(d.dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	locked, err := tryLock(lock)
	if err == nil && !locked {
		err = &BusyError{Dir: d.dir}
	}
	if err != nil {
		_ = lock.Close()
		return err
	}
	d.lock = lock
	return nil
}

func (d *spoolDirectory) close() { _ = d.lock.Close() }

// create makes an empty file for a segment, and its name durable.
func (d *spoolDirectory) create(seg wal.Segment) (*segmentFile, error) {
	f, err := openSpooled(d.dir, seg, os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return nil, err
	}
	if err := syncDirectory(d.dir); err != nil {
		return nil, errors.Join(err, f.discard())
	}
	return f, nil
}

// segments lists the segments that have a file, in order.
func (d *spoolDirectory) segments(size wal.SegmentSize) ([]wal.Segment, error) {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	var list []wal.Segment
	for _, e := range entries {
		if seg, err := wal.ParseSegment(e.Name(), size); err == nil {
			list = append(list, seg)
		}
	}
	slices.SortFunc(list, func(x, y wal.Segment) int {
		return cmp.Or(cmp.Compare(x.Timeline, y.Timeline), cmp.Compare(x.Number, y.Number))
	})
	return list, nil
}

// orphan is the spool of another incarnation of the cluster.
type orphan struct {
	dir      string
	segments int
}

// orphans lists the directories beside this one that hold segments and that no
// receiver uses.
func (d *spoolDirectory) orphans() ([]orphan, error) {
	parent := filepath.Dir(d.dir)
	siblings, err := os.ReadDir(parent)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	var list []orphan
	for _, e := range siblings {
		dir := filepath.Join(parent, e.Name())
		if !e.IsDir() || dir == d.dir {
			continue
		}
		// Its segments may have another size: what counts is that they are named like some.
		files, err := filepath.Glob(filepath.Join(dir, strings.Repeat("[0-9A-F]", 24)))
		if err != nil {
			return nil, fmt.Errorf("spool: %w", err)
		}
		if len(files) > 0 && !inUse(dir) {
			list = append(list, orphan{dir, len(files)})
		}
	}
	return list, nil
}

// inUse reports whether a receiver holds the lock of a spool's directory.
func inUse(dir string) bool {
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer lock.Close()
	locked, err := tryLock(lock)
	return err == nil && !locked
}

// reportOrphans tells of WAL that was acknowledged, maybe, and that nobody uploads:
// the cluster was initialised anew, or upgraded, before it was in the repository.
func (r *Receiver) reportOrphans() error {
	list, err := r.spool.orphans()
	if err != nil {
		return err
	}
	for _, o := range list {
		r.state.finding()
		r.o.Logger.Error("the spool of another incarnation of the cluster holds WAL that is not uploaded any more", "directory", o.dir, "segments", o.segments,
			"hint", "upload its complete segments, each with `walden wal-push FILE`, which stores them in the incarnation they are of; then remove the directory")
	}
	return nil
}

// recoverSpool takes over what an earlier run left in the spool.
func (r *Receiver) recoverSpool(ctx context.Context) error {
	if err := r.reportOrphans(); err != nil {
		return err
	}
	list, err := r.spool.segments(r.journal.size)
	if err != nil {
		return err
	}
	loaded := 0
	for _, seg := range list {
		f, err := openSpooled(r.spool.dir, seg, 0)
		if err != nil {
			return fmt.Errorf("spool: %w", err)
		}
		s, err := r.recoverSegment(ctx, seg, f)
		if err != nil {
			return errors.Join(err, f.Close())
		}
		if s == nil {
			r.o.Logger.Warn("a file of the spool holds no valid WAL and is removed", "file", f.Name())
			if err := f.discard(); err != nil {
				return fmt.Errorf("spool: %w", err)
			}
			continue
		}
		r.journal.load(s)
		loaded++
	}
	if loaded > 0 {
		r.o.Logger.Info("the spool of an earlier run is being uploaded", "segments", loaded)
	}
	return nil
}

// recoverSegment makes a segment of a file of the spool; nil: there is no WAL in it.
func (r *Receiver) recoverSegment(ctx context.Context, seg wal.Segment, f *segmentFile) (*openSegment, error) {
	have, err := validLength(f, seg, r.o.Archive.Incarnation().SystemID)
	if err != nil {
		return nil, fmt.Errorf("spool: %s: %w", f.Name(), err)
	}
	if have == 0 {
		return nil, nil //nolint:nilnil // both are meant
	}
	// Not synced, as far as is known: who wrote it may have been killed before that.
	s := &openSegment{seg: seg, file: f, have: have}
	err = r.shipper.persist(ctx, "the spool's segment "+seg.Name(), func() error {
		live, err := r.o.Archive.LiveSegment(ctx, seg)
		if err != nil {
			return err
		}
		if s.presealed, err = r.o.Archive.Contains(ctx, seg); err == nil && !s.presealed {
			s.existing = usable(live)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("see what is archived of the spool: %w", err)
	}
	return s, nil
}

// load adds a segment that was received earlier.
func (j *journal) load(s *openSegment) {
	now := time.Now()
	j.mu.Lock()
	defer j.mu.Unlock()
	if last := j.last(); last != nil && !last.complete() {
		last.left = true // only the very last can grow
	}
	s.since, s.arrived = now, now
	j.segments = append(j.segments, s)
	j.buffered += s.have
	j.timeline, j.tip = s.seg.Timeline, s.end()
	j.signal()
}

// validLength is how many bytes of a segment's file are valid WAL, up to the end
// of the last whole record: what was written and never synced can be lost, or
// zeros, after a crash of the machine. Whatever comes behind is cut off.
func validLength(f *segmentFile, seg wal.Segment, systemID uint64) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	var fault *record.Error
	if info.Size() == f.size {
		_, err := index.Build(f, seg, index.Options{SystemID: systemID, Complete: true})
		if err == nil {
			return f.size, nil
		}
		if !errors.As(err, &fault) {
			return 0, err
		}
	}
	x, err := index.Build(f, seg, index.Options{SystemID: systemID})
	if errors.As(err, &fault) {
		return 0, nil // not even its first page
	}
	if err != nil {
		return 0, err // it cannot be read: that says nothing of what it holds
	}
	n := min(int64(x.EndOfRecords-seg.Start()), info.Size())
	return n, f.Truncate(n)
}

// syncSpool syncs what has been received, again and again, so that it can be
// acknowledged.
func (r *Receiver) syncSpool(ctx context.Context) error {
	for {
		changed := r.journal.await()
		if err := r.journal.sync(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// sync makes the files of all segments durable, as far as they have come.
func (j *journal) sync() error {
	type unsynced struct {
		s    *openSegment
		file *segmentFile
		have int64
	}
	var list []unsynced
	j.mu.Lock()
	for _, s := range j.segments {
		if s.file != nil && s.synced < s.have {
			list = append(list, unsynced{s, s.file, s.have})
		}
	}
	j.mu.Unlock()
	for _, u := range list {
		err := u.file.Sync()
		if errors.Is(err, fs.ErrClosed) {
			continue // it is in the repository
		}
		if err != nil {
			return &LocalError{Segment: u.s.seg, Err: err}
		}
		j.update(func() { u.s.synced = u.have })
	}
	return nil
}

// openSpooled opens a segment's file in the spool.
func openSpooled(dir string, seg wal.Segment, flags int) (*segmentFile, error) {
	f, err := os.OpenFile(filepath.Join(dir, seg.Name()), os.O_RDWR|flags, 0o600)
	if err != nil {
		return nil, err
	}
	return &segmentFile{File: f, size: seg.Size.Bytes(), spooled: true}, nil
}
