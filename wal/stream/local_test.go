package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/storage/mem"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
)

// TestLocalFault: where the file of a segment cannot be read, this machine is
// blamed, and not the repository.
func TestLocalFault(t *testing.T) {
	repo, _, err := repository.Init(t.Context(), mem.New(), repository.Options{})
	if err != nil {
		t.Fatal(err)
	}
	inc, _, err := archive.CreateIncarnation(t.Context(), repo, "main", 1, testSize, 17)
	if err != nil {
		t.Fatal(err)
	}
	for _, whole := range []bool{false, true} {
		t.Run(fmt.Sprintf("whole %v", whole), func(t *testing.T) {
			j := newJournal(testSize, 2*testSize.Bytes(), func(seg wal.Segment) (*segmentFile, error) {
				f, err := os.OpenFile(filepath.Join(t.TempDir(), seg.Name()), os.O_WRONLY|os.O_CREATE, 0o600)
				return &segmentFile{File: f, size: seg.Size.Bytes()}, err
			})
			n := int64(1000)
			if whole {
				n = testSize.Bytes()
			}
			j.begin(1, wal.LSN(testSize), true)
			if err := j.append(t.Context(), wal.LSN(testSize), make([]byte, n)); err != nil {
				t.Fatal(err)
			}
			j.need()
			var log bytes.Buffer
			o, st := &Options{Archive: archive.New(repo, inc), Logger: slog.New(slog.NewTextHandler(&log, nil))}, &state{}
			s := newShipper(o, j, st)
			next, _ := s.choose(1, 1)
			if next.kind == noJob {
				t.Fatal("nothing is to be done")
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := s.do(ctx, next); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v", err)
			}
			var e *LocalError
			if err := st.lastFailure(); !errors.As(err, &e) || e.Segment != next.segment.seg {
				t.Errorf("the failure is %v", err)
			}
			if s := st.status; s.Retries != 0 {
				t.Errorf("the repository is said to have failed %d times", s.Retries)
			}
			if l := log.String(); !strings.Contains(l, "the disk of this machine fails") || !strings.Contains(l, "hint=") || strings.Contains(l, "does not take it") {
				t.Errorf("log: %s", l)
			}
			if err := next.segment.file.discard(); err != nil {
				t.Error(err)
			}
		})
	}
	if !local(fmt.Errorf("store: %w", &repository.SpoolError{Err: os.ErrPermission})) || local(os.ErrPermission) {
		t.Error("who failed is not told")
	}
}
