package config

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/file"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/storage/s3"
)

// location is a parsed repository URL.
type location struct {
	directory      string // file
	bucket, prefix string // s3
}

func parseURL(raw string) (location, error) {
	u, err := url.Parse(raw)
	shown := withoutCredentials(raw)
	switch {
	case err != nil:
		return location{}, fmt.Errorf("%q is not a URL: it must be file:///DIRECTORY or s3://BUCKET/PREFIX", shown)
	case u.Scheme != "file" && u.Scheme != "s3":
		return location{}, fmt.Errorf("%q: only file:///DIRECTORY and s3://BUCKET/PREFIX are supported", shown)
	case u.User != nil:
		return location{}, fmt.Errorf("%q: credentials do not belong into the URL, they come from the standard AWS chain", shown)
	case strings.ContainsAny(raw, "?#"):
		// What follows would silently not be part of the place.
		return location{}, fmt.Errorf("%q: a ? or # that belongs to the name must be written %%3F or %%23", shown)
	case u.Scheme == "file" && u.Host == "" && filepath.IsAbs(filepath.FromSlash(u.Path)):
		return location{directory: filepath.Clean(filepath.FromSlash(u.Path))}, nil
	case u.Scheme == "file":
		return location{}, fmt.Errorf("%q: the directory must be absolute, as in file:///var/lib/walden", shown)
	case u.Host != "":
		return location{bucket: u.Host, prefix: strings.Trim(u.Path, "/")}, nil
	}
	return location{}, fmt.Errorf("%q: it must be s3://BUCKET or s3://BUCKET/PREFIX", shown)
}

// withoutCredentials is a URL, perhaps one that cannot be parsed, for a message.
func withoutCredentials(raw string) string {
	scheme, rest, ok := strings.Cut(raw, "://")
	at := strings.LastIndex(rest, "@")
	if !ok || at < 0 {
		return raw
	}
	return scheme + "://…" + rest[at:]
}

// Directory is where a file:// repository lies; "" for other kinds.
func (r Repository) Directory() string {
	loc, err := parseURL(r.URL)
	if err != nil {
		return ""
	}
	return loc.directory
}

// OpenOptions are what a command wishes of the repository besides the configuration.
type OpenOptions struct {
	// Memory and Workers: see repository.Options.
	Memory  int64
	Workers int
	// Wrap decorates the store; nil: it is used as it is.
	Wrap func(storage.Store) storage.Store
}

// openStore returns the store that the section describes, with retries that are
// told to log. It connects to nothing yet.
func (r Repository) openStore(ctx context.Context, log *slog.Logger) (storage.Store, error) {
	loc, err := parseURL(r.URL)
	if err != nil {
		return nil, fmt.Errorf("repository.url: %w", err)
	}
	if loc.directory != "" {
		return file.New(loc.directory, file.Options{})
	}
	s, err := s3.New(ctx, s3.Options{
		Bucket:    loc.bucket,
		Prefix:    loc.prefix,
		Endpoint:  r.S3.Endpoint,
		Region:    r.S3.Region,
		PathStyle: r.S3.PathStyle,
		CAFile:    r.S3.CAFile,
	})
	if err != nil {
		return nil, err
	}
	retry, err := r.retryFor()
	if err != nil {
		return nil, fmt.Errorf("repository.retry: %w", err)
	}
	if retry == 0 {
		return s, nil
	}
	return storage.WithRetry(s, storage.RetryOptions{MaxElapsed: retry, Notify: notifier(log, time.Now)}), nil
}

// retryInterval is the least time between two warnings of operations that are
// tried again: in an outage there are many of them, and each is tried often.
const retryInterval = time.Minute

// notifier logs operations that are tried again: the first one, then at most one
// each retryInterval and how many there were; all of them at level debug.
func notifier(log *slog.Logger, now func() time.Time) func(err error, op, key string, wait time.Duration) {
	var mu sync.Mutex
	var told time.Time
	failures := 0
	return func(err error, op, key string, wait time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		failures++
		level := slog.LevelDebug
		if t := now(); told.IsZero() || t.Sub(told) >= retryInterval {
			level, told = slog.LevelWarn, t
		}
		log.Log(context.Background(), level, "the repository failed and is tried again",
			"operation", op, "object", key, "failures", failures, "wait", wait.Round(time.Millisecond), "error", err)
	}
}

// Open opens the repository that the section describes.
func (r Repository) Open(ctx context.Context, log *slog.Logger, o OpenOptions) (*repository.Repository, error) {
	s, ro, err := r.prepare(ctx, log, o)
	if err != nil {
		return nil, err
	}
	if o.Wrap != nil {
		s = o.Wrap(s)
	}
	return repository.Open(ctx, s, ro)
}

// OpenStore returns the store that the section describes, and how a repository in it
// is opened: for what looks at objects that make it no repository.
func (r Repository) OpenStore(ctx context.Context, log *slog.Logger) (storage.Store, repository.Options, error) {
	return r.prepare(ctx, log, OpenOptions{})
}

// Init creates the repository where it does not exist yet, and opens it.
func (r Repository) Init(ctx context.Context, log *slog.Logger) (repo *repository.Repository, created bool, err error) {
	s, o, err := r.prepare(ctx, log, OpenOptions{})
	if err != nil {
		return nil, false, err
	}
	return repository.Init(ctx, s, o)
}

func (r Repository) prepare(ctx context.Context, log *slog.Logger, o OpenOptions) (storage.Store, repository.Options, error) {
	codec, err := r.Codec()
	if err != nil {
		return nil, repository.Options{}, fmt.Errorf("repository.compression: %w", err)
	}
	s, err := r.openStore(ctx, log)
	return s, repository.Options{Codec: codec, Memory: o.Memory, Workers: o.Workers}, err
}
