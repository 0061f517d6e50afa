package restore

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/internal/crc32c"
	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal/archive"
)

// maxParked is how many files that are not complete stay open while nobody
// writes to them.
const maxParked = 128

// maxFinished is how many verified files, and maxUnsynced how many bytes of
// them, wait to be made durable together.
const (
	maxFinished = 256
	maxUnsynced = 256 << 20
)

// copyBuffer is how much of a file is in hand at once.
const copyBuffer = 256 << 10

// copier writes the files of a backup.
type copier struct {
	repo *repository.Repository
	inc  archive.Incarnation
	refs map[packID]basebackup.PackRef
	disk disk
	own  *owner
	jobs int

	settling sync.Mutex // held by the one who makes a batch durable

	mu       sync.Mutex // of what follows
	packs    map[packID]*openPack
	parked   list.List // of *file, the longest unused first
	finished []*file   // verified, to be made durable
	unsynced int64     // their bytes
	// downloaded counts the stored bytes that were read of packs.
	downloaded int64
	progress   Progress
	report     func(Progress)
	began      time.Time
	reported   time.Time
}

// openPack is a pack whose index has been read, shared by its runs.
type openPack struct {
	once   sync.Once
	object *frame.Object
	err    error
	runs   int // that still need it
}

// defaultJobs bounds the memory of parallel runs: each holds about two MiB for
// every decompressor of the repository, and one more.
func defaultJobs() int {
	return max(2, min(8, 64/(runtime.GOMAXPROCS(0)+1)))
}

func newCopier(repo *repository.Repository, inc archive.Incarnation, m *basebackup.Manifest, o Options) *copier {
	c := &copier{
		repo: repo, inc: inc, refs: map[packID]basebackup.PackRef{}, disk: osDisk{}, jobs: o.Jobs,
		packs: map[packID]*openPack{}, report: o.Progress, began: time.Now(),
		progress: Progress{TotalBytes: m.Bytes, TotalFiles: m.Files},
	}
	if o.Databases != nil {
		c.progress.TotalBytes -= o.Databases.HollowBytes
		c.progress.TotalFiles -= o.Databases.HollowFiles
	}
	if c.jobs <= 0 {
		c.jobs = defaultJobs()
	}
	for _, ref := range m.Packs {
		c.refs[packID{ref.Backup, ref.Number}] = ref
	}
	return c
}

// copy writes files; they are complete, verified and durable when it returns nil.
func (c *copier) copy(ctx context.Context, files []*file) error {
	defer func() {
		for _, f := range files {
			f.abandon() // nothing is open after a success
		}
		c.parked.Init()
		c.finished, c.unsynced = nil, 0
		clear(c.packs)
	}()
	runs := planRuns(files)
	for _, r := range runs {
		if _, ok := c.refs[r.pack]; !ok {
			return unnamedPack(&r)
		}
		if c.packs[r.pack] == nil {
			c.packs[r.pack] = &openPack{}
		}
		c.packs[r.pack].runs++
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(c.jobs)
	for _, f := range files {
		if f.pending == 0 && gctx.Err() == nil {
			g.Go(func() error { return c.copyEmpty(f) })
		}
	}
	for i := range runs {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error { return c.copyRun(gctx, &runs[i]) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return c.settle()
}

func unnamedPack(r *readRun) error {
	return &FileError{Path: r.parts[0].file.entry.Path,
		Reason: fmt.Sprintf("the backup's manifest does not name pack %d of backup %s", r.pack.number, r.pack.backup)}
}

func (c *copier) copyEmpty(f *file) error {
	if err := f.open(c.disk); err != nil {
		return fmt.Errorf("restore %s: %w", f.entry.Path, err)
	}
	return c.finish(f)
}

// copyRun reads one run of a pack and writes what it holds.
func (c *copier) copyRun(ctx context.Context, r *readRun) error {
	object, err := c.open(ctx, r.pack)
	if err != nil {
		return fmt.Errorf("restore %s: %w", r.parts[0].file.entry.Path, err)
	}
	defer c.release(r.pack)
	if r.end > object.Size() {
		last := r.parts[len(r.parts)-1].file
		return &FileError{Path: last.entry.Path, Packs: c.keys(last.entry.Extents), Reason: "it reaches beyond the end of its pack"}
	}
	c.mu.Lock()
	c.downloaded += object.StoredRange(r.begin, r.end-r.begin)
	c.mu.Unlock()
	body := object.NewReader(ctx, r.begin, r.end-r.begin)
	defer body.Close()
	buffer := make([]byte, copyBuffer)
	at := r.begin
	for i := range r.parts {
		p := &r.parts[i]
		if err := c.copyPart(ctx, body, p, p.offset-at, buffer); err != nil {
			return fmt.Errorf("restore %s: %w", p.file.entry.Path, err)
		}
		at = p.offset + p.length
	}
	return nil
}

// copyPart passes over skip bytes and writes the part that follows.
func (c *copier) copyPart(ctx context.Context, body io.Reader, p *part, skip int64, buffer []byte) error {
	if _, err := io.CopyN(io.Discard, body, skip); err != nil {
		return unexpected(err)
	}
	if err := p.file.open(c.disk); err != nil {
		return err
	}
	var crc uint32
	for done := int64(0); done < p.length; {
		if err := ctx.Err(); err != nil {
			return err
		}
		b := buffer[:min(p.length-done, int64(len(buffer)))]
		if _, err := io.ReadFull(body, b); err != nil {
			return unexpected(err)
		}
		crc = crc32c.Update(crc, b)
		if _, err := p.file.handle.WriteAt(b, p.at+done); err != nil {
			return err
		}
		done += int64(len(b))
		c.count(int64(len(b)), 0)
	}
	complete, idle := p.file.written(p.index, crc)
	if complete {
		return c.finish(p.file)
	}
	if idle {
		return c.park(p.file)
	}
	return nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (c *copier) finish(f *file) error {
	if err := f.finish(c.disk, c.own, c.keys); err != nil {
		return fmt.Errorf("restore %s: %w", f.entry.Path, err)
	}
	if !f.hollow {
		c.count(0, 1)
	}
	c.mu.Lock()
	c.finished = append(c.finished, f)
	if !f.hollow {
		c.unsynced += f.entry.Size
	}
	due := len(c.finished) >= maxFinished || c.unsynced >= maxUnsynced
	c.mu.Unlock()
	if due {
		return c.settle()
	}
	return nil
}

// settle makes the finished files durable, as one batch: the first fsync takes
// most of the others' work with it. Whoever comes meanwhile waits, which bounds
// the number of open files.
func (c *copier) settle() error {
	c.settling.Lock()
	defer c.settling.Unlock()
	c.mu.Lock()
	batch := c.finished
	c.finished, c.unsynced = nil, 0
	c.mu.Unlock()
	g := errgroup.Group{}
	g.SetLimit(c.jobs)
	for _, f := range batch {
		g.Go(func() error {
			if err := f.settle(); err != nil {
				return fmt.Errorf("restore %s: %w", f.entry.Path, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// park keeps an incomplete file open until too many are.
func (c *copier) park(f *file) error {
	c.mu.Lock()
	c.parked.PushBack(f)
	var oldest *file
	if c.parked.Len() > maxParked {
		oldest = c.parked.Remove(c.parked.Front()).(*file)
	}
	c.mu.Unlock()
	if oldest == nil {
		return nil
	}
	if err := oldest.park(); err != nil {
		return fmt.Errorf("restore %s: %w", oldest.entry.Path, err)
	}
	return nil
}

// open opens a pack, once for all its runs. The pack is the very one that the
// manifest means: see basebackup.OpenPack.
func (c *copier) open(ctx context.Context, id packID) (*frame.Object, error) {
	c.mu.Lock()
	p := c.packs[id]
	c.mu.Unlock()
	p.once.Do(func() { p.object, p.err = basebackup.OpenPack(ctx, c.repo, c.inc, c.refs[id]) })
	return p.object, p.err
}

// release forgets a pack that no run needs any more.
func (c *copier) release(id packID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.packs[id]; p != nil {
		if p.runs--; p.runs == 0 {
			delete(c.packs, id)
		}
	}
}

// keys lists the objects that extents lie in.
func (c *copier) keys(extents []basebackup.Extent) []string {
	var list []string
	seen := map[packID]bool{}
	for _, x := range extents {
		if id := (packID{x.Backup, x.Pack}); !seen[id] {
			seen[id] = true
			list = append(list, basebackup.PackKey(c.inc, x.Backup, x.Pack))
		}
	}
	return list
}

// count adds to the progress and tells of it when that is due.
func (c *copier) count(bytes, files int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.progress.Bytes += bytes
	c.progress.Files += files
	if c.report == nil || time.Since(c.reported) < 100*time.Millisecond {
		return
	}
	c.reported = time.Now()
	c.progress.Elapsed = c.reported.Sub(c.began)
	c.report(c.progress)
}

// finalReport tells of the end.
func (c *copier) finalReport() {
	c.reported = time.Time{}
	c.count(0, 0)
}
