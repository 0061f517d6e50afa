package verify_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/replay/verify"
	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/faulty"
	"github.com/walden-pg/walden/wal/archive"
)

// clock is one that the test sets.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

// bulk is how many bytes a run reads whole of WAL, files and fragments.
func bulk(t *testing.T, s storage.Store, o verify.Options) (read, due int64, r *verify.Report) {
	t.Helper()
	r = run(t, s, o)
	return r.Incarnations[0].Read.Bytes, r.Incarnations[0].Due.Bytes, r
}

// A deep run that is cut off is gone on with: what was read is not read again.
func TestResume(t *testing.T) {
	w := newWorld(t)
	at := &clock{noon.Add(48 * time.Hour)}
	o := options()
	o.Deep, o.Now, o.Readers, o.KeepEvery = true, at.Now, 1, time.Nanosecond
	f := faulty.New(w.store)
	// It stops at the pack of the second backup, by an error of the store.
	f.Inject(faulty.Fault{Op: faulty.Open, Times: -1, Skip: 2, Key: func(key string) bool { return strings.HasSuffix(key, "packs/"+secondID+"/000001") }})
	r, err := verify.Run(t.Context(), f, o)
	if err == nil || !strings.Contains(err.Error(), "incomplete") || r.Complete || r.Error == "" {
		t.Fatalf("error %v, report %+v", err, r)
	}
	first := r.Incarnations[0].Read.Bytes
	total := r.Incarnations[0].Due.Bytes
	if first == 0 || first >= total {
		t.Fatalf("%d of %d bytes were read", first, total)
	}
	at.now = at.now.Add(time.Hour)
	read, due, r := bulk(t, w.store, o)
	if since := r.Incarnations[0].Since; since == nil || !since.Equal(noon.Add(48*time.Hour)) || read != due || due >= total || !r.Complete {
		t.Errorf("the second run read %d of %d bytes, since %v", read, due, since)
	}
	for _, b := range r.Backups {
		if b.State != verify.Sound || !b.Read.Equal(noon.Add(48*time.Hour)) {
			t.Errorf("validation %+v", b)
		}
	}
	// It has come to its end: the next one begins anew.
	at.now = at.now.Add(time.Hour)
	if read, _, r := bulk(t, w.store, o); read != total || r.Incarnations[0].Since != nil {
		t.Errorf("the third run read %d bytes, not %d, since %v", read, total, r.Incarnations[0].Since)
	}
}

// Interrupted, a run leaves what it has done.
func TestInterrupt(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	o := options()
	o.Deep, o.Readers = true, 1
	o.Progress = func(p verify.Progress) {
		if p.Phase == verify.Reading && p.Bytes > 3<<20 {
			cancel()
		}
	}
	r, err := verify.Run(ctx, w.store, o)
	if !errors.Is(err, context.Canceled) || r.Complete || r.Incarnations[0].Record == "" {
		t.Fatalf("error %v, %+v", err, r.Incarnations)
	}
	o.Progress = nil
	if read, due, r := bulk(t, w.store, o); r.Incarnations[0].Since == nil || read != due || read == 0 {
		t.Errorf("%d of %d bytes, since %v", read, due, r.Incarnations[0].Since)
	}
	o.Restart = true
	if _, _, r := bulk(t, w.store, o); r.Incarnations[0].Since != nil {
		t.Error("it was gone on with")
	}
}

// Only what has not been read for so long is read, the oldest first.
func TestUnverifiedFor(t *testing.T) {
	w := newWorld(t)
	at := &clock{noon.Add(48 * time.Hour)}
	o := options()
	o.Now, o.UnverifiedFor = at.Now, 7*24*time.Hour
	total, _, _ := bulk(t, w.store, o)
	at.now = at.now.Add(6 * 24 * time.Hour)
	if read, due, _ := bulk(t, w.store, o); due != 0 || read != 0 {
		t.Errorf("after 6 days %d bytes were read", read)
	}
	at.now = at.now.Add(26 * time.Hour)
	if read, _, r := bulk(t, w.store, o); read == 0 || read > total || !r.Deep {
		t.Errorf("after 7 days %d of %d bytes were read", read, total)
	}
	// Some are older than others now: they come first.
	seg := w.segment(2, 9)
	b := read(t, w.store, archive.SegmentKey(w.inc, seg))
	w.ok(w.store.Delete(t.Context(), archive.SegmentKey(w.inc, seg)))
	o.UnverifiedFor = time.Nanosecond
	at.now = at.now.Add(time.Hour)
	run(t, w.store, o)
	w.store.Replace(archive.SegmentKey(w.inc, seg), b)
	at.now = at.now.Add(time.Hour)
	f := faulty.New(w.store)
	f.Inject(faulty.Fault{Op: faulty.Open, Times: -1, Key: func(key string) bool { return strings.Contains(key, "/packs/"+firstID) }, Skip: 2})
	r, err := verify.Run(t.Context(), f, o)
	if err == nil || r.Incarnations[0].Read.Bytes < int64(len(b)) {
		t.Errorf("error %v, read %+v", err, r.Incarnations[0].Read)
	}
}

// What is wrong with the store is no finding.
func TestStoreFaults(t *testing.T) {
	w := newWorld(t)
	o := options()
	o.Deep = true
	for _, op := range []faulty.Op{faulty.Open, faulty.Read, faulty.List, faulty.Next, faulty.Put} {
		for skip := 0; ; skip += 7 {
			f := faulty.New(w.store)
			f.Inject(faulty.Fault{Op: op, Skip: skip})
			r, err := verify.Run(t.Context(), f, o)
			if err == nil {
				if !r.Complete {
					t.Errorf("%s %d: incomplete without an error", op, skip)
				}
				if f.Count(op) > skip {
					t.Errorf("%s %d: the fault was not told", op, skip)
				}
				break
			}
			if !errors.Is(err, faulty.ErrInjected) || r.Complete || r.Error == "" {
				t.Errorf("%s %d: %v", op, skip, err)
			}
			for _, f := range r.Findings {
				t.Errorf("%s %d: %s: %s", op, skip, f.Object, f.Problem)
			}
		}
	}
}

func TestNothingThere(t *testing.T) {
	w := newWorld(t)
	o := options()
	o.Cluster = "other"
	var none *archive.NoIncarnationError
	if _, err := verify.Run(t.Context(), w.store, o); !errors.As(err, &none) {
		t.Errorf("no such cluster: %v", err)
	}
	o = options()
	o.Incarnation = 3
	if _, err := verify.Run(t.Context(), w.store, o); !errors.As(err, &none) {
		t.Errorf("no such incarnation: %v", err)
	}
}

// The rate is kept: half a mebibyte at four a second, and what is read at first at once.
func TestMaxRate(t *testing.T) {
	w := newWorld(t)
	o := options()
	o.Deep, o.NoRecord = true, true
	o.MaxRate = 8 << 20
	began := time.Now()
	r := clean(t, w.store, o)
	least := time.Duration(float64(r.Incarnations[0].Read.Bytes-(2<<20)) / float64(o.MaxRate) * float64(time.Second))
	if took := time.Since(began); took < least {
		t.Errorf("%d bytes took %v", r.Incarnations[0].Read.Bytes, took)
	}
}

// The validation of backups is told from the last record.
func TestValidations(t *testing.T) {
	w := newWorld(t)
	if v, err := verify.Validations(t.Context(), w.repo, w.inc); err != nil || len(v) != 0 {
		t.Errorf("without a record: %v, %v", v, err)
	}
	run(t, w.store, options())
	v, err := verify.Validations(t.Context(), w.repo, w.inc)
	if err != nil || v[firstID].State != verify.Checked || v[secondID].State != verify.Checked || v[firstID].Read != nil {
		t.Errorf("quick: %v, %v", v, err)
	}
	o := options()
	o.Deep = true
	run(t, w.store, o)
	if v, _ = verify.Validations(t.Context(), w.repo, w.inc); v[firstID].State != verify.Sound || v[secondID].Read == nil {
		t.Errorf("deep: %v", v)
	}
	key := w.inc.Prefix() + "packs/" + firstID + "/000000"
	w.store.Replace(key, nil)
	run(t, w.store, options())
	if v, _ = verify.Validations(t.Context(), w.repo, w.inc); v[firstID].State != verify.Damaged || !strings.Contains(v[firstID].Problem, key) || v[secondID].State != verify.Sound {
		t.Errorf("damaged: %v", v)
	}
	if records := keysOf(t, w.store, w.inc.Prefix()+"verified/"); len(records) != 3 || !slices.IsSorted(records) {
		t.Errorf("records %v", records)
	}
}

// What has gone is told of again and again, until it is back or its loss is accepted.
func TestGoneStaysGone(t *testing.T) {
	w := newWorld(t)
	key := archive.SegmentKey(w.inc, w.segment(2, 9))
	last := w.inc.Prefix() + "live/00000002/00000002000000000000000A/0001A30A-00027490"
	o := options()
	run(t, w.store, o)
	kept := read(t, w.store, last)
	w.ok(w.store.Delete(t.Context(), last))
	w.ok(w.store.Delete(t.Context(), key))
	for range 3 {
		r := run(t, w.store, o)
		for _, k := range []string{key, last} {
			if !slices.ContainsFunc(r.Findings, func(f verify.Finding) bool { return f.Object == k && !f.Harmless }) {
				t.Errorf("%s is not told of: %+v", k, r.Findings)
			}
		}
	}
	w.store.Replace(last, kept)
	if r := run(t, w.store, o); len(r.Findings) != 1 || r.Findings[0].Object != key {
		t.Errorf("one is back: %+v", r.Findings)
	}
	w.ok(w.store.Delete(t.Context(), last))
	o.AcceptGone = true
	run(t, w.store, o)
	o.AcceptGone = false
	if r := run(t, w.store, o); len(r.Findings) != 1 || r.Findings[0].Object != key {
		t.Errorf("the gap alone cannot be accepted: %+v", r.Findings)
	}
}

// What the deep form has found the quick one tells of as well, until it is mended.
func TestDamageIsNotForgotten(t *testing.T) {
	w := newWorld(t)
	o := options()
	deep := o
	deep.Deep = true
	for _, key := range []string{
		w.inc.Prefix() + "packs/" + firstID + "/000000",
		archive.SegmentKey(w.inc, w.segment(1, 4)),
		w.inc.Prefix() + "live/00000002/00000002000000000000000A/0000D185-0001A30A",
	} {
		kept := read(t, w.store, key)
		bad := slices.Clone(kept)
		bad[len(bad)/3] ^= 4
		w.store.Replace(key, bad)
		clean(t, w.store, o)
		for _, again := range []verify.Options{deep, o, o, deep, o} {
			if r := run(t, w.store, again); len(r.Findings) != 1 || r.Findings[0].Object != key {
				t.Errorf("%s, deep %v: %+v", key, again.Deep, r.Findings)
			}
		}
		w.store.Replace(key, kept)
		clean(t, w.store, o)
		clean(t, w.store, o)
	}
}

// What is deleted on purpose is not missed.
func TestForget(t *testing.T) {
	w := newWorld(t)
	o := options()
	goes := func(key string) bool {
		return strings.Contains(key, firstID) || key == archive.SegmentKey(w.inc, w.segment(1, 1)) || strings.HasSuffix(key, ".partial")
	}
	w.ok(verify.Forget(t.Context(), w.repo, w.inc, goes)) // nothing is remembered yet
	run(t, w.store, o)
	w.ok(verify.Forget(t.Context(), w.repo, w.inc, goes))
	for _, key := range keysOf(t, w.store, w.inc.Prefix()) {
		if goes(key) {
			w.ok(w.store.Delete(t.Context(), key))
		}
	}
	records := len(keysOf(t, w.store, w.inc.Prefix()+"verified/"))
	w.ok(verify.Forget(t.Context(), w.repo, w.inc, goes)) // again: nothing is left to forget
	if n := len(keysOf(t, w.store, w.inc.Prefix()+"verified/")); n != records || n != 2 {
		t.Errorf("%d records, then %d", records, n)
	}
	if r := clean(t, w.store, o); len(r.Backups) != 1 {
		t.Errorf("backups %+v", r.Backups)
	}
}
