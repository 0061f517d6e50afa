package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/internal/inorder"
	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/names"
)

const (
	// batch is how many listed objects are looked at before more are listed.
	batch = 1024
	// small is up to what stored size objects that are not of the bulk are read whole by the
	// quick form: they come with the first read.
	small = 64 << 10
	// maxText bounds the raw bytes of history files.
	maxText = 4 << 20
)

// seen is what looking at an object found.
type seen struct {
	place
	info   storage.Info
	footer frame.Footer
	// gone: it was deleted after it was listed.
	gone bool
	// whole: it was read from its first byte to its last, and what it says was checked.
	whole  bool
	damage error

	segment  segmentPiece
	end      wal.LSN // of the WAL in a partial segment
	text     []byte
	manifest *basebackup.Manifest
	snapshot *names.Snapshot
}

// look lists all objects and looks at each.
func (c *checker) look(ctx context.Context) error {
	var list []storage.Info
	flush := func() error {
		err := inorder.Do(ctx, len(list), c.o.Parallel, func(ctx context.Context, i int) (seen, error) {
			s, err := c.lookAt(ctx, list[i])
			return s, c.judge(&s, err)
		}, func(_ int, s seen) error { return c.settle(ctx, s) })
		list = list[:0]
		c.progress(Progress{Phase: Looking, Objects: c.listed()})
		return err
	}
	for info, err := range c.repo.Store().List(ctx, c.inc.Prefix(), "") {
		if err != nil {
			return fmt.Errorf("list the objects of cluster %s: %w", c.inc.Cluster, err)
		}
		if isReserved(strings.TrimPrefix(info.Key, c.inc.Prefix())) {
			continue
		}
		if list = append(list, info); len(list) == batch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

func (c *checker) progress(p Progress) {
	if c.o.Progress != nil {
		c.o.Progress(p)
	}
}

func (c *checker) listed() int64 {
	n := int64(0)
	for _, t := range c.tally.Objects {
		n += t.Objects
	}
	return n
}

// judge sorts an error: the store's is returned, what is wrong with the object is noted.
func (c *checker) judge(s *seen, err error) error {
	switch {
	case err == nil:
	case errors.Is(err, storage.ErrNotExist):
		s.gone = true
	case isFault(err):
		return err
	default:
		s.damage = err
	}
	return nil
}

// lookAt looks at one object, as the quick form does.
func (c *checker) lookAt(ctx context.Context, info storage.Info) (seen, error) {
	s := seen{place: c.place(info.Key), info: info}
	var err error
	switch s.kind {
	case KindUnknown:
	case KindSegment:
		err = c.lookAtSegment(ctx, &s)
	case KindPartial:
		err = c.lookAtPartial(ctx, &s)
	case KindFragment:
		s.footer, err = c.footer(ctx, s.place)
		if want := s.fragment.To - s.fragment.From; err == nil && s.footer.RawLength != want {
			err = fmt.Errorf("it holds %d bytes, its name says %d", s.footer.RawLength, want)
		}
	case KindPack, KindTable:
		s.footer, err = c.footer(ctx, s.place)
	case KindNames:
		s.whole = info.Size <= small
		s.snapshot, s.footer, err = names.Verify(ctx, c.repo, c.inc, s.names, s.whole)
	case KindRollup, KindRecord:
		if s.footer, err = c.footer(ctx, s.place); err == nil && info.Size <= small {
			s.whole = s.kind == KindRecord // of a roll-up more is asked
			err = c.wholeText(ctx, &s)
		}
	default:
		s.whole = true
		err = c.wholeText(ctx, &s)
	}
	if err == nil && s.footer.BodyLength > 0 && s.footer.StoredSize() != info.Size {
		err = fmt.Errorf("it has %d bytes, its footer says %d", info.Size, s.footer.StoredSize())
	}
	return s, err
}

// footer reads an object's footer.
func (c *checker) footer(ctx context.Context, p place) (frame.Footer, error) {
	return c.repo.Footer(ctx, p.key, p.kind.container())
}

// wholeText reads an object that is no bulk from its first byte to its last, and
// checks what it says.
func (c *checker) wholeText(ctx context.Context, s *seen) error {
	obj, err := c.repo.Open(ctx, s.key, s.kind.container())
	if err != nil {
		return err
	}
	s.footer = obj.Footer()
	if err := obj.VerifyTo(ctx, io.Discard); err != nil {
		return err
	}
	switch s.kind {
	case KindHistory, KindBackupHistory:
		if obj.Size() > maxText {
			return fmt.Errorf("it has %d bytes, which no such file has", obj.Size())
		}
		if s.text, err = obj.ReadAll(ctx); err == nil {
			err = archive.CheckText(s.file, s.text)
		}
	case KindClaim:
		_, err = basebackup.LoadClaim(ctx, c.repo, c.inc, s.backup)
	case KindManifest:
		s.manifest, err = basebackup.Load(ctx, c.repo, c.inc, s.backup)
		var missing *basebackup.NotFoundError
		if errors.As(err, &missing) {
			return storage.ErrNotExist
		}
	case KindRollup:
		_, err = c.rollups.Load(ctx, rollupRef(s.place))
	case KindRecord:
		_, err = loadRecord(ctx, c.repo, c.inc, s.record)
	case KindRate:
		s.text, err = obj.ReadAll(ctx)
		var m struct {
			Time time.Time `json:"time"`
		}
		if err == nil {
			err = json.Unmarshal(s.text, &m)
		}
		if at := m.Time.UTC().Format("20060102T150405Z"); err == nil && !strings.HasPrefix(path.Base(s.key), at) {
			err = fmt.Errorf("it is of %s", at)
		}
	}
	return err
}

// settle takes what was found of an object, in the order of keys.
func (c *checker) settle(ctx context.Context, s seen) error {
	if s.gone {
		if s.kind == KindSegment {
			c.wal.restart()
		}
		return nil // if it is missed, compare finds out
	}
	t := c.tally.Objects[s.kind]
	t.add(s.info.Size)
	c.tally.Objects[s.kind] = t
	rest := strings.TrimPrefix(s.key, c.inc.Prefix())
	read := int64(0)
	if c.old != nil {
		read, _ = c.old.inventory.find(rest)
	}
	if s.kind != KindRecord && s.kind != KindUnknown {
		if c.due(read) {
			c.tally.Due.add(s.info.Size)
		}
		switch {
		case s.damage != nil:
			read = 0
		case s.whole:
			if c.due(read) {
				c.tally.Read.add(s.info.Size)
			}
			read = c.began.UnixMilli()
		}
		c.found.add(rest, read)
	}
	if s.damage != nil {
		c.find(s.place, problemOf(s.damage), c.effectOf(s.place))
	}
	return c.note(ctx, s)
}

// note remembers what later comparisons need of an object.
func (c *checker) note(ctx context.Context, s seen) error {
	sound := s.damage == nil
	switch s.kind {
	case KindSegment:
		return c.wal.settle(ctx, c, s)
	case KindPartial:
		if sound {
			c.partials[s.file.Segment] = s.end
		}
	case KindFragment:
		l := c.live[s.fragment.Segment]
		if l == nil {
			l = &archive.LiveSegment{Segment: s.fragment.Segment}
			c.live[s.fragment.Segment] = l
		}
		l.Fragments = append(l.Fragments, archive.StoredFragment{Fragment: s.fragment, Size: s.info.Size, ModTime: s.info.ModTime})
	case KindHistory:
		if sound {
			c.histories[s.file.Timeline] = string(s.text)
		}
	case KindBackupHistory:
		if sound {
			c.tellBackup(s.file.Timeline, string(s.text))
		}
	case KindRollup:
		c.rolled[s.log] = append(c.rolled[s.log], s.generation)
	case KindNames:
		c.names[s.key] = s.key
		if sound {
			for _, id := range s.snapshot.Holders() {
				c.named[id.Key(c.inc)] = s.key
			}
		}
	case KindClaim, KindManifest, KindTable, KindPack:
		if c.activity[s.backup].Before(s.info.ModTime) {
			c.activity[s.backup] = s.info.ModTime
		}
		c.backups.note(s)
	case KindUnknown:
		c.find(s.place, "it is nothing that this version of Walden stores", effect{harmless: "no restore needs it"})
	}
	return nil
}

// shallow verifies an incarnation whose identity cannot be read: each object by
// itself, as far as its container tells.
func (c *checker) shallow(ctx context.Context) error {
	var list []storage.Info
	for info, err := range c.repo.Store().List(ctx, c.inc.Prefix(), "") {
		if err != nil {
			return fmt.Errorf("list the objects of cluster %s: %w", c.inc.Cluster, err)
		}
		if rest := strings.TrimPrefix(info.Key, c.inc.Prefix()); !isReserved(rest) && info.Key != c.inc.IdentityKey() {
			list = append(list, info)
		}
		if len(list) == batch {
			if err := c.shallowBatch(ctx, list); err != nil {
				return err
			}
			list = list[:0]
		}
	}
	return c.shallowBatch(ctx, list)
}

func (c *checker) shallowBatch(ctx context.Context, list []storage.Info) error {
	return inorder.Do(ctx, len(list), c.o.Parallel, func(ctx context.Context, i int) (seen, error) {
		info := list[i]
		s := seen{info: info, place: place{key: info.Key, kind: shapeOf(strings.TrimPrefix(info.Key, c.inc.Prefix()))}}
		var err error
		if s.footer, err = c.footer(ctx, s.place); err == nil && s.footer.StoredSize() != info.Size {
			err = fmt.Errorf("it has %d bytes, its footer says %d", info.Size, s.footer.StoredSize())
		}
		if err == nil && c.o.Deep {
			var obj *frame.Object
			if obj, err = c.repo.Open(ctx, info.Key, s.kind.container()); err == nil {
				err = obj.Verify(ctx)
			}
		}
		return s, c.judge(&s, err)
	}, func(_ int, s seen) error {
		if s.gone {
			return nil
		}
		t := c.tally.Objects[s.kind]
		t.add(s.info.Size)
		c.tally.Objects[s.kind] = t
		if s.damage != nil {
			c.find(s.place, problemOf(s.damage), effect{harmless: "what follows from it cannot be told without " + c.inc.IdentityKey()})
		}
		c.progress(Progress{Phase: Looking, Objects: c.listed()})
		return nil
	})
}
