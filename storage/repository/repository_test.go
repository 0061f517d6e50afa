package repository

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/faulty"
	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/storage/mem"
)

var ctx = context.Background()

func mustInit(t testing.TB, s storage.Store, o Options) *Repository {
	t.Helper()
	r, _, err := Init(ctx, s, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestInit(t *testing.T) {
	s := mem.New()
	if _, err := Open(ctx, s, Options{}); err == nil {
		t.Fatal("an empty store is a repository")
	} else {
		var none *NoRepositoryError
		if !errors.As(err, &none) || !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("Open: %v", err)
		}
	}
	r, created, err := Init(ctx, s, Options{Codec: frame.CodecZstd})
	if err != nil || !created {
		t.Fatal(created, err)
	}
	if r.ID() == [16]byte{} || r.Store() != storage.Store(s) || r.Codec() != frame.CodecZstd {
		t.Error("the repository lacks something")
	}
	again, created, err := Init(ctx, s, Options{})
	if err != nil || created || again.ID() != r.ID() {
		t.Errorf("second Init: %v, %v", created, err)
	}
	opened, err := Open(ctx, s, Options{})
	if err != nil || opened.ID() != r.ID() || opened.UUID() != r.UUID() {
		t.Errorf("Open: %v", err)
	}
	var keys []string
	for info, err := range s.List(ctx, "", "") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, info.Key)
	}
	if len(keys) != 1 || keys[0] != DescriptorKey {
		t.Errorf("Init left %v", keys)
	}
}

func TestInitRace(t *testing.T) {
	s := mem.New()
	var mu sync.Mutex
	ids, creators := map[[16]byte]bool{}, 0
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			r, created, err := Init(ctx, s, Options{})
			if err != nil {
				t.Error(err)
				return
			}
			// What a real init does next must not disturb the others.
			if _, err := r.Put(ctx, "main/identity-"+r.UUID()[:1]+"x", []byte("id"), ObjectOptions{Kind: frame.KindIdentity}); err != nil && !errors.Is(err, storage.ErrExist) {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			ids[r.ID()] = true
			if created {
				creators++
			}
		})
	}
	wg.Wait()
	if len(ids) != 1 || creators != 1 {
		t.Errorf("%d identities, %d creators", len(ids), creators)
	}
}

// TestInitFailures makes every operation of Init fail in turn, before and
// after it is done, and runs Init again.
func TestInitFailures(t *testing.T) {
	for _, lost := range []bool{false, true} {
		for n := range 40 {
			inner := mem.New()
			s := faulty.New(inner)
			s.Inject(faulty.Fault{Skip: n, LostReply: lost, Permanent: true})
			_, _, err := Init(ctx, s, Options{})
			first, openErr := Open(ctx, inner, Options{})
			if err == nil && openErr != nil {
				t.Fatalf("operation %d: Init succeeded, but %v", n, openErr)
			}
			again, _, err := Init(ctx, inner, Options{})
			if err != nil {
				t.Fatalf("operation %d: second Init: %v", n, err)
			}
			if openErr == nil && again.ID() != first.ID() {
				t.Fatalf("operation %d: the identity changed", n)
			}
		}
	}
}

func TestInitRefuses(t *testing.T) {
	t.Run("other objects", func(t *testing.T) {
		s := mem.New()
		if err := storage.PutBytes(ctx, s, "main/1-42/identity.json", []byte("x"), storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		_, _, err := Init(ctx, s, Options{})
		var full *NotEmptyError
		if !errors.As(err, &full) || full.Key != "main/1-42/identity.json" {
			t.Errorf("Init: %v", err)
		}
	})
	t.Run("a store that replaces", func(t *testing.T) {
		s := replacing{mem.New()}
		if _, _, err := Init(ctx, s, Options{}); !errors.Is(err, storage.ErrReplaces) {
			t.Errorf("Init: %v", err)
		}
		if _, err := s.Stat(ctx, DescriptorKey); !errors.Is(err, storage.ErrNotExist) {
			t.Errorf("walden.json: %v", err)
		}
	})
}

// replacing is a store whose Put overwrites.
type replacing struct{ storage.Store }

func (r replacing) Put(ctx context.Context, key string, b io.ReaderAt, size int64, o storage.PutOptions) error {
	if err := r.Delete(ctx, key); err != nil {
		return err
	}
	return r.Store.Put(ctx, key, b, size, o)
}

func openWith(t *testing.T, content string) error {
	t.Helper()
	s := mem.New()
	if err := storage.PutBytes(ctx, s, DescriptorKey, []byte(content), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err := Open(ctx, s, Options{})
	if err == nil {
		return nil
	}
	var e *frame.Error
	if !errors.As(err, &e) || e.Object != DescriptorKey || e.Offset < 0 || !strings.Contains(err.Error(), DescriptorKey) {
		t.Errorf("not a *frame.Error of walden.json: %v", err)
	}
	return err
}

// golden is a descriptor as this format has it for ever.
const golden = `{
  "format": 1,
  "repository": "0ec3ad6f-4f35-4c8f-9a43-2a1b5d6c7e8f",
  "encryption": "none",
  "created": "2026-11-22T21:30:00Z",
  "check": "952f85aa1fe0fd7a8f2237ecf8cbe898"
}
`

func TestDescriptor(t *testing.T) {
	d, err := newDescriptor(time.Date(2026, 11, 22, 22, 30, 0, 0, time.FixedZone("", 3600)))
	if err != nil {
		t.Fatal(err)
	}
	other, err := newDescriptor(time.Now())
	if err != nil || other.id == d.id {
		t.Error("two identities are the same")
	}
	d.Repository = "0ec3ad6f-4f35-4c8f-9a43-2a1b5d6c7e8f"
	good := string(d.encode())
	if good != golden {
		t.Errorf("walden.json is now\n%s", good)
	}
	if err := openWith(t, good); err != nil {
		t.Error(err)
	}
	for i := range good {
		for bit := range 8 {
			b := []byte(good)
			b[i] ^= 1 << bit
			if openWith(t, string(b)) == nil {
				t.Errorf("bit %d of byte %d: the damage was not seen", bit, i)
			}
		}
		if openWith(t, good[:i]) == nil {
			t.Errorf("cut at %d: not seen", i)
		}
	}
	if openWith(t, good+" ") == nil || openWith(t, good+good) == nil {
		t.Error("what was appended was not seen")
	}
}

// recoded changes a descriptor in a way that its check agrees with.
func recoded(t *testing.T, change func(d *descriptor)) string {
	t.Helper()
	d, err := newDescriptor(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	change(&d)
	return string(d.encode())
}

func TestDescriptorRefused(t *testing.T) {
	for name, c := range map[string]struct {
		content string
		want    frame.ErrorKind
	}{
		"future format": {`{"format": 2, "cells": []}`, frame.Version},
		"no format":     {`{}`, frame.Version},
		"not JSON":      {"# walden", frame.Corrupt},
		"empty":         {"", frame.Corrupt},
		"encrypted":     {recoded(t, func(d *descriptor) { d.Encryption = "age" }), frame.Encrypted},
		"unknown":       {recoded(t, func(d *descriptor) { d.Encryption = "" }), frame.Encrypted},
		"upper-case id": {recoded(t, func(d *descriptor) { d.Repository = strings.ToUpper(d.Repository[:35]) + "A" }), frame.Corrupt},
		"id without -":  {recoded(t, func(d *descriptor) { d.Repository = strings.ReplaceAll(d.Repository, "-", "0") }), frame.Corrupt},
		"zero id":       {recoded(t, func(d *descriptor) { d.Repository = FormatID([16]byte{}) }), frame.Corrupt},
		"short id":      {recoded(t, func(d *descriptor) { d.Repository = "7" }), frame.Corrupt},
		"time":          {recoded(t, func(d *descriptor) { d.Created = "yesterday" }), frame.Corrupt},
		"another rendering": {func() string {
			var b bytes.Buffer
			if err := json.Compact(&b, []byte(recoded(t, func(*descriptor) {}))); err != nil {
				t.Fatal(err)
			}
			return b.String()
		}(), frame.Corrupt},
	} {
		err := openWith(t, c.content)
		var e *frame.Error
		if !errors.As(err, &e) || e.Kind != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := mem.New()
	if err := storage.PutBytes(ctx, s, DescriptorKey, make([]byte, maxDescriptor+1), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(ctx, s, Options{}); !errors.Is(err, storage.ErrTooLarge) {
		t.Errorf("a huge walden.json: %v", err)
	}
}
