package storage_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/mem"
	"github.com/walden-pg/walden/storage/storetest"
)

func TestReadRateConformance(t *testing.T) {
	storetest.Run(t, func(*testing.T) storage.Store { return storage.WithReadRate(mem.New(), 1<<30) }, storetest.ManyKeys(50))
}

// Readers share the rate, and what they read is what is there.
func TestReadRate(t *testing.T) {
	m := mem.New()
	content := bytes.Repeat([]byte("0123456789abcdef"), 4096) // 64 KiB
	if err := storage.PutBytes(t.Context(), m, "a", content, storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	s := storage.WithReadRate(m, 256<<10) // a quarter of a second each, after a burst of 64 KiB
	began := time.Now()
	done := make(chan error, 3)
	for range 3 {
		go func() {
			b, err := storage.ReadAll(t.Context(), s, "a", 1<<20)
			if err == nil && !bytes.Equal(b, content) {
				err = errors.New("other bytes")
			}
			done <- err
		}()
	}
	for range 3 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if took := time.Since(began); took < 400*time.Millisecond {
		t.Errorf("192 KiB at 256 KiB/s took %v", took)
	}
}

func TestReadRateIsInterrupted(t *testing.T) {
	m := mem.New()
	if err := storage.PutBytes(t.Context(), m, "a", make([]byte, 1<<20), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	r, err := storage.WithReadRate(m, 1<<10).Open(ctx, "a", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	began := time.Now()
	if _, err := io.Copy(io.Discard, r); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 10*time.Second {
		t.Errorf("error %v after %v", err, time.Since(began))
	}
}
