package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/wal"
)

// NoIncarnationError says that a cluster, or one of its incarnations, is not
// in the repository.
type NoIncarnationError struct {
	Cluster string
	// Number of the incarnation that was asked for; 0: there is none at all.
	Number int
}

// Error names the cluster.
func (e *NoIncarnationError) Error() string {
	if e.Number == 0 {
		return fmt.Sprintf("the repository knows no cluster %s", e.Cluster)
	}
	return fmt.Sprintf("cluster %s has no incarnation %d", e.Cluster, e.Number)
}

// Hint says how it would get there.
func (e *NoIncarnationError) Hint() string {
	if e.Number == 0 {
		return "run `walden init` first, or see that the repository's url and the cluster's name are right"
	}
	return "`walden list` shows the incarnations there are"
}

// ConflictError says that other content is archived under the name. Nothing
// was changed.
type ConflictError struct {
	// Name of the file, and Key of the object that is there.
	Name, Key string
	// Stored and Offered are the digests of the raw bytes, keyed with the
	// repository's id (frame.Footer.RawDigest).
	Stored, Offered [32]byte
}

// Error names the object and both digests.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s: other content is archived under this name: object %s has digest %x, this file %x; nothing was changed",
		e.Name, e.Key, e.Stored[:8], e.Offered[:8])
}

// Hint says what to look for.
func (e *ConflictError) Hint() string {
	return "two servers archive under one name: a copy or a restored cluster of the same system identifier on the same timeline. " +
		"Stop archiving on the one that is not production (archive_mode = off), or promote it so that it gets a timeline of its own"
}

// RefusedError says why a file is not archived. Nothing was stored.
type RefusedError struct {
	Name   string
	Reason string
	// LSN is where the fault lies; 0 if it has no place.
	LSN wal.LSN
	// Advice says what a person can do; may be empty. Hint returns it.
	Advice string
	// Err is the cause; may be nil.
	Err error
}

// Error names the file and the reason.
func (e *RefusedError) Error() string { return fmt.Sprintf("%s is refused: %s", e.Name, e.Reason) }

// Hint is the Advice.
func (e *RefusedError) Hint() string { return e.Advice }

// Unwrap returns the cause.
func (e *RefusedError) Unwrap() error { return e.Err }

// AbsentError says that a file is proven not to be in the archive: listings
// succeeded, it is not there, and nothing later on its timeline is.
type AbsentError struct {
	Name string
	// Err is set by ForStandby alone: the fault that a standby is to wait out.
	Err error
}

// Error names the file.
func (e *AbsentError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s cannot be had now, the standby is told to wait: %v", e.Name, e.Err)
	}
	return e.Name + " is not in the archive"
}

// Unwrap returns the fault that is waited out, if there is one.
func (e *AbsentError) Unwrap() error { return e.Err }

// HoleError says that a file is missing although the archive holds what comes
// after it: it was lost, or is yet to arrive.
type HoleError struct {
	// Name of the file that is missing, and Key of its object.
	Name, Key string
	// Next is the first later file that is there.
	Next string
}

// Error names the hole and what follows it.
func (e *HoleError) Error() string {
	return fmt.Sprintf("object %s is missing: the archive has a hole, %s is there and %s is not", e.Key, e.Next, e.Name)
}

// Hint says what to do about it.
func (e *HoleError) Hint() string {
	return "if a server still has the file in its pg_wal, push it there with `walden wal-push`; otherwise recovery cannot go past this point: " +
		"restore to a moment before it, or from a backup that started after it (`walden list` shows both)"
}

// DeliveryError says that a file was found and could not be written where
// PostgreSQL wants it. Nothing is left behind.
type DeliveryError struct {
	Name, Path string
	Err        error
}

// Error names the file and the place.
func (e *DeliveryError) Error() string {
	return fmt.Sprintf("deliver %s to %s: %v", e.Name, e.Path, e.Err)
}

// Unwrap returns the cause.
func (e *DeliveryError) Unwrap() error { return e.Err }

// Hint says what to do about it.
func (e *DeliveryError) Hint() string {
	switch {
	case errors.Is(e.Err, fs.ErrNotExist):
		return "the directory does not exist: PostgreSQL's %p is relative to the data directory, run wal-get there"
	case errors.Is(e.Err, fs.ErrPermission):
		return "run wal-get as the user that owns the data directory"
	}
	return ""
}

// ForStandby makes of a storage fault on a segment an *AbsentError, so that a
// standby's restore_command reports "not there yet" and the standby waits
// instead of dying. History files, damage, holes, cancellation, a repository
// that is not there, and faults of the local disk stay what they are.
func ForStandby(name string, err error) error {
	// The smallest size takes all names that any size takes.
	if _, bad := wal.ParseSegment(name, wal.MinSegmentSize); bad != nil {
		return err
	}
	var (
		fault  *storage.Error
		damage *frame.Error
	)
	if !errors.As(err, &fault) || errors.As(err, &damage) ||
		errors.Is(err, storage.ErrNotExist) || errors.Is(err, context.Canceled) {
		return err
	}
	return &AbsentError{Name: name, Err: err}
}

// IsStoreFault tells what is wrong with the store, with the way to it or with this
// machine from what is wrong with an object, or that it is not there.
func IsStoreFault(err error) bool {
	var local *ScratchError
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &local) {
		return true
	}
	var e *storage.Error
	return errors.As(err, &e) && !errors.Is(err, storage.ErrNotExist)
}
