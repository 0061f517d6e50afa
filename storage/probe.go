package storage

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// ErrReplaces is wrapped by the error of ProbeConditional on a store that lets
// a second writer replace an object.
var ErrReplaces = errors.New("the store lets a second writer replace an object that exists")

// A Stager is a Writer that can be told to take the path of large objects:
// Stage sends what was written ahead as a part, so that Commit has to assemble the
// object; nothing may be written after it. Writers of stores where large and
// small objects are committed alike don't implement it.
type Stager interface{ Stage() error }

// ProbeConditional finds out whether the store keeps its first promise, that
// nothing is overwritten. It creates objects of a few bytes twice, by Put, by a
// Writer, and by a Writer that assembles parts, under fresh keys that begin with prefix
// ("" or ending in "/"), and removes them again, as far as it may.
//
// The error of a store that lets the second one pass wraps ErrReplaces. Any
// other error says that the probe could not be made.
func ProbeConditional(ctx context.Context, s Store, prefix string) error {
	id := make([]byte, 8)
	if _, err := rand.Read(id); err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	p := prober{s: s, base: prefix + "probe-" + hex.EncodeToString(id)}
	for _, how := range []struct {
		name          string
		first, second func(ctx context.Context, key string, b []byte) error
	}{
		{"put", p.put, p.put},
		{"create", p.create, p.create},
		{"parts", p.assemble, p.assemble},
		{"mixed", p.put, p.assemble},
	} {
		if err := p.twice(ctx, how.name, how.first, how.second); err != nil {
			return err
		}
	}
	return nil
}

type prober struct {
	s    Store
	base string
}

// twice creates one object in two ways and checks that the first one stays.
func (p prober) twice(ctx context.Context, name string, first, second func(context.Context, string, []byte) error) error {
	key := p.base + "-" + name
	a, b := []byte("walden probe, first writer"), []byte("walden probe, second writer")
	// Whoever may not delete leaves a few bytes behind: that is no reason to
	// refuse the store.
	defer func() {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		_ = p.s.Delete(clean, key)
	}()
	// ErrExist on a fresh key is a retry that met its own first attempt.
	if err := first(ctx, key, a); err != nil && !errors.Is(err, ErrExist) {
		return err
	}
	err := second(ctx, key, b)
	if err != nil && !errors.Is(err, ErrExist) {
		return err
	}
	if err == nil {
		return p.replaces(key, "the second create of one key succeeded ("+name+")")
	}
	got, err := ReadAll(ctx, p.s, key, 1024)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, a) {
		return p.replaces(key, "the second create of one key was refused, but changed the content ("+name+")")
	}
	return nil
}

func (p prober) replaces(key, what string) error {
	return &Error{
		Op: "probe", Key: key, Err: fmt.Errorf("%w: %s", ErrReplaces, what),
		Hint: "the store must honour If-None-Match on PutObject and on CompleteMultipartUpload: upgrade it or use another one",
	}
}

func (p prober) put(ctx context.Context, key string, b []byte) error {
	return PutBytes(ctx, p.s, key, b, PutOptions{})
}

func (p prober) create(ctx context.Context, key string, b []byte) error {
	return p.write(ctx, key, b, false)
}

func (p prober) assemble(ctx context.Context, key string, b []byte) error {
	return p.write(ctx, key, b, true)
}

func (p prober) write(ctx context.Context, key string, b []byte, stage bool) error {
	w, err := p.s.Create(ctx, key, PutOptions{})
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(b); err != nil {
		return err
	}
	if st, ok := w.(Stager); ok && stage {
		if err := st.Stage(); err != nil {
			return err
		}
	}
	return w.Commit()
}
