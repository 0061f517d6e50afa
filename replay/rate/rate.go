// Package rate keeps how fast restores went, so that a plan can say how long one
// will take.
//
// A Measurement is an object of its own, <incarnation>/rates/<time>-<random>, written by
// whoever has restored, and never changed. It counts for little when little was
// moved: what is smaller than Least says more about starting than about speed, and
// is not kept. Plans take the median of the last few.
package rate

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal/archive"
)

// Least is how many bytes must have been downloaded, or replayed, for the time they
// took to say something.
const Least = 16 << 20

// formatVersion is that of the JSON.
const formatVersion = 1

const (
	// kept is how many measurements are read: the last ones.
	kept = 5
	// maxSize bounds one of them.
	maxSize = 64 << 10
)

// Measurement is how fast one restore went. Bytes and Seconds of a part that was too
// small, or did not happen, are 0.
type Measurement struct {
	Format int       `json:"format"`
	Time   time.Time `json:"time"`
	Host   string    `json:"host"`
	// DownloadBytes is what was read from the repository for the base, as it is stored.
	DownloadBytes   int64   `json:"download_bytes"`
	DownloadSeconds float64 `json:"download_seconds"`
	// ReplayBytes is how much WAL PostgreSQL replayed, fetching it meanwhile.
	ReplayBytes   int64   `json:"replay_bytes"`
	ReplaySeconds float64 `json:"replay_seconds"`
}

// significant drops the parts that say nothing.
func (m Measurement) significant() Measurement {
	if m.DownloadBytes < Least || m.DownloadSeconds <= 0 {
		m.DownloadBytes, m.DownloadSeconds = 0, 0
	}
	if m.ReplayBytes < Least || m.ReplaySeconds <= 0 {
		m.ReplayBytes, m.ReplaySeconds = 0, 0
	}
	return m
}

func prefix(inc archive.Incarnation) string { return inc.Prefix() + "rates/" }

// keyTime begins the keys, so that they are in order of time.
const keyTime = "20060102T150405Z"

// Record stores a measurement, if it says something. Time and Host are filled in.
func Record(ctx context.Context, repo *repository.Repository, inc archive.Incarnation, m Measurement) error {
	m = m.significant()
	if m.DownloadBytes == 0 && m.ReplayBytes == 0 {
		return nil
	}
	m.Format, m.Time = formatVersion, time.Now().UTC().Truncate(time.Second)
	m.Host, _ = os.Hostname() // for people; it may be missing
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("record how fast the restore went: %w", err)
	}
	key := prefix(inc) + m.Time.Format(keyTime) + "-" + strings.ToLower(rand.Text()[:8])
	if _, err := repo.Put(ctx, key, b, repository.ObjectOptions{Kind: frame.KindRecord}); err != nil {
		return fmt.Errorf("record how fast the restore went: %w", err)
	}
	return nil
}

// Load reads the last few measurements, oldest first. One that cannot be decoded is
// left out: it is no more than a hint. An error is one of the store.
func Load(ctx context.Context, repo *repository.Repository, inc archive.Incarnation) ([]Measurement, error) {
	var keys []string
	for info, err := range repo.Store().List(ctx, prefix(inc), "") {
		if err != nil {
			return nil, fmt.Errorf("list how fast restores went: %w", err)
		}
		if keys = append(keys, info.Key); len(keys) > kept {
			keys = keys[1:]
		}
	}
	list := make([]Measurement, len(keys))
	g, ctx := errgroup.WithContext(ctx)
	for i, key := range keys {
		g.Go(func() (err error) {
			list[i], err = read(ctx, repo, key)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("read how fast restores went: %w", err)
	}
	return slices.DeleteFunc(list, func(m Measurement) bool { return m.DownloadBytes == 0 && m.ReplayBytes == 0 }), nil
}

// read reads one; the zero value: it is gone, or says nothing that can be used.
func read(ctx context.Context, repo *repository.Repository, key string) (Measurement, error) {
	b, err := repo.Read(ctx, key, frame.KindRecord, maxSize)
	var fault *storage.Error
	if errors.As(err, &fault) && !errors.Is(err, storage.ErrNotExist) {
		return Measurement{}, err
	}
	if ctx.Err() != nil {
		return Measurement{}, ctx.Err()
	}
	var m Measurement
	if err != nil || json.Unmarshal(b, &m) != nil || m.Format != formatVersion {
		return Measurement{}, nil
	}
	return m.significant(), nil
}
