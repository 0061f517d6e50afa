// Package faulty is a storage.Store that fails on demand.
package faulty

import (
	"context"
	"errors"
	"io"
	"iter"
	"sync"
	"time"

	"github.com/walden-pg/walden/storage"
)

// ErrInjected is the cause of every failure that a Fault names no error for.
var ErrInjected = errors.New("injected fault")

// Op names an operation. Opens, reads of what was opened, writes and commits
// are operations of their own; a listing counts once for the call and once for every object.
type Op string

// The operations. Any matches all of them.
const (
	Any    Op = ""
	Put    Op = "put"
	Create Op = "create"
	Write  Op = "write"
	Commit Op = "commit"
	Abort  Op = "abort"
	Open   Op = "open"
	Read   Op = "read"
	Stat   Op = "stat"
	List   Op = "list"
	Next   Op = "next"
	Delete Op = "delete"
)

// A Fault is one rule of what goes wrong. The zero Fault makes the next
// operation fail, once, with a temporary error, before it does anything.
type Fault struct {
	// Op and Key choose the operations: those called Op (Any: all) whose key,
	// or prefix of a listing, Key accepts (nil: all).
	Op  Op
	Key func(key string) bool
	// Skip lets that many chosen operations pass first.
	Skip int
	// Times is how many operations fail then; 0: one; negative: all that follow.
	Times int
	// Every makes only each Every-th of them fail; 0 and 1: each.
	Every int

	// Err is the error; nil: ErrInjected. It is made a *storage.Error that is
	// Temporary, unless Permanent is set or it is one already.
	Err       error
	Permanent bool
	// LostReply does the operation first, and returns the error nevertheless.
	LostReply bool
	// Delay waits before the operation. A fault with a Delay only delays if OnlyDelay is set.
	Delay     time.Duration
	OnlyDelay bool
	// Damage, on Open, changes what the reader delivers instead of failing.
	Damage *Damage
}

// Damage is what an Open delivers instead of the truth.
type Damage struct {
	// FlipBit inverts bit FlipBit%8 of byte FlipBit/8 of the object; negative: none.
	FlipBit int64
	// Truncate makes the object appear to end after so many bytes; negative: it does not.
	Truncate int64
}

// Store decorates a store with faults.
type Store struct {
	storage.Store
	mu     sync.Mutex
	faults []Fault
	counts map[Op]int
}

// New returns s, without any fault so far.
func New(s storage.Store) *Store { return &Store{Store: s, counts: map[Op]int{}} }

// Inject adds a fault. The first fault that matches an operation decides.
func (s *Store) Inject(f Fault) { s.mu.Lock(); defer s.mu.Unlock(); s.faults = append(s.faults, f) }

// Clear removes all faults and sets all counters to zero.
func (s *Store) Clear() { s.mu.Lock(); defer s.mu.Unlock(); s.faults = nil; clear(s.counts) }

// Count returns how many operations op there were (Any: all).
func (s *Store) Count(op Op) int { return s.counts[op] }

var _ = context.Background
var _ io.Reader
var _ iter.Seq[int]
