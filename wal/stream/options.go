package stream

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/walden-pg/walden/internal/server"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/names"
)

// Acknowledge says when the server is told that WAL is flushed.
type Acknowledge string

const (
	// Remote: once it is durable in the repository.
	Remote Acknowledge = "remote"
	// Local: once it is synced to the local spool. What is lost with this
	// machine's disk before it was uploaded is lost.
	Local Acknowledge = "local"
)

// Valid returns an error for anything but Remote and Local.
func (a Acknowledge) Valid() error {
	if a != Remote && a != Local {
		return fmt.Errorf("%q: it must be remote or local", string(a))
	}
	return nil
}

// CheckSlot returns an error if PostgreSQL would not take the name for a slot.
func CheckSlot(name string) error {
	if !validSlot(name) {
		return fmt.Errorf("%q: a slot's name has 1 to 63 characters of a-z 0-9 _", name)
	}
	return nil
}

// Defaults of Options.
const (
	DefaultSlot       = "walden"
	DefaultMaxDelay   = time.Second
	DefaultSpoolLimit = 10 << 30
	// DefaultNamesInterval is the time between two looks at the catalogues.
	DefaultNamesInterval = 5 * time.Minute
	defaultUploads       = 4
	defaultStop          = 10 * time.Second
)

// Options say what to receive, from where and into what.
type Options struct {
	// Conninfo is a libpq connection string or URL, which may name several
	// hosts and target_session_attrs.
	Conninfo string
	// Archive is where the WAL goes. The server must be of its incarnation.
	Archive *archive.Archive
	// Slot is the physical replication slot; DefaultSlot if empty. It is created
	// where it is missing, on every host.
	Slot string
	// Acknowledge is Remote if empty. Local needs a Spool.
	Acknowledge Acknowledge
	// MaxDelay is how long WAL may wait for more before it is uploaded, where
	// no commit waits for it; 0: DefaultMaxDelay.
	MaxDelay time.Duration
	// Uploads bounds the uploads that are under way at once; 0: 4.
	Uploads int
	// Spool is a directory that holds WAL until it is in the repository, so that
	// an outage of the repository does not fill the server's disk. Empty: what
	// does not fit into a few segments stays on the server.
	Spool string
	// SpoolLimit bounds the spool, in bytes; 0: DefaultSpoolLimit.
	SpoolLimit int64
	// DataDirectory is the server's, if it runs on this machine: then a file system
	// that the WAL held back by the slot might fill is warned of. May be empty.
	DataDirectory string
	// StopTimeout bounds how long Run goes on after its context is done, to ship
	// what was received; 0: 10 seconds.
	StopTimeout time.Duration
	// Names takes snapshots of the names of databases and relations; nil: none are taken.
	Names *names.Taker
	// NamesInterval is the time between two looks at the catalogues; 0:
	// DefaultNamesInterval, negative: names are not read.
	NamesInterval time.Duration
	// Logger receives what goes on; nil: nothing is logged.
	Logger *slog.Logger
}

// complete fills in the defaults and returns an error for what cannot be meant.
func (o *Options) complete() error {
	if o.Archive == nil {
		return errors.New("stream: an archive is needed")
	}
	if _, err := server.Parse(o.Conninfo); err != nil {
		return err
	}
	if o.Slot == "" {
		o.Slot = DefaultSlot
	}
	if err := CheckSlot(o.Slot); err != nil {
		return fmt.Errorf("slot %w", err)
	}
	if o.Acknowledge == "" {
		o.Acknowledge = Remote
	}
	if err := o.Acknowledge.Valid(); err != nil {
		return fmt.Errorf("acknowledge %w", err)
	}
	switch {
	case o.Acknowledge == Local && o.Spool == "":
		return errors.New("acknowledge: local needs a spool: what is acknowledged must be on a disk")
	case o.MaxDelay < 0 || o.Uploads < 0 || o.SpoolLimit < 0 || o.StopTimeout < 0:
		return errors.New("stream: limits cannot be negative")
	}
	if o.MaxDelay == 0 {
		o.MaxDelay = DefaultMaxDelay
	}
	if o.Uploads == 0 {
		o.Uploads = defaultUploads
	}
	if o.SpoolLimit == 0 {
		o.SpoolLimit = DefaultSpoolLimit
	}
	if o.NamesInterval == 0 {
		o.NamesInterval = DefaultNamesInterval
	}
	if o.StopTimeout == 0 {
		o.StopTimeout = defaultStop
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// FreeSpace is what may still be written to the file system of a directory, in bytes.
func FreeSpace(dir string) (int64, error) { return freeSpace(dir) }
