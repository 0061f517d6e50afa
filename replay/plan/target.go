package plan

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/walden-pg/walden/wal"
)

// Kind says what kind of moment a Target is.
type Kind string

// The kinds of targets.
const (
	// Latest is the end of the WAL that is archived.
	Latest Kind = "latest"
	// Time is a point in time: everything that was committed by then.
	Time Kind = "time"
	// LSN is a position in the WAL.
	LSN Kind = "lsn"
	// XID is the end of a transaction.
	XID Kind = "xid"
	// Name is a restore point, made with pg_create_restore_point().
	Name Kind = "name"
	// Immediate is the earliest consistent moment of a backup.
	Immediate Kind = "immediate"
)

// LatestTimeline as Target.Timeline means the newest one that a backup leads to,
// CurrentTimeline the one that the backup was taken on.
const (
	LatestTimeline  = "latest"
	CurrentTimeline = "current"
)

// Target is what to restore to. The zero value of every field but Kind is a
// usable default.
type Target struct {
	Kind Kind `json:"kind"`
	// Time is set for Kind Time, and so on. PostgreSQL knows microseconds:
	// what is finer is cut off.
	Time time.Time `json:"-"`
	LSN  wal.LSN   `json:"-"`
	XID  uint32    `json:"-"`
	// FullXID is XID with its epoch in the upper half; 0: the epoch is not known, and XID
	// must have been used only once.
	FullXID uint64 `json:"-"`
	Name    string `json:"-"`
	// Exclusive stops just before the target instead of just after. It applies
	// to Time, LSN and XID.
	Exclusive bool `json:"exclusive"`
	// Timeline is LatestTimeline, which "" means too, CurrentTimeline, or a
	// timeline's number in decimal.
	Timeline string `json:"timeline,omitempty"`
	// Backup is the id of the backup to start from; "": the newest that will do.
	Backup string `json:"backup,omitempty"`
}

// maxName is the longest name a restore point can have (MAXFNAMELEN - 1).
const maxName = 63

// firstXID is FirstNormalTransactionId: smaller ones never commit.
const firstXID = 3

// Validate tells what is wrong with the target, whatever is archived. Such an
// error is one of usage.
func (t Target) Validate() error {
	if _, _, err := t.timeline(); err != nil {
		return err
	}
	if t.Exclusive && t.Kind != Time && t.Kind != LSN && t.Kind != XID {
		return fmt.Errorf("an exclusive target must be a time, an LSN or a transaction id, not %q", t.Kind)
	}
	switch t.Kind {
	case Latest, Immediate:
		return nil
	case Time:
		if t.Time.IsZero() {
			return errors.New("the target's time is missing")
		}
	case LSN:
		if t.LSN == 0 {
			return errors.New("the target's LSN is 0/0, which is no position in the WAL")
		}
	case XID:
		if t.XID < firstXID {
			return fmt.Errorf("transaction id %d never belongs to a transaction: the first one is %d", t.XID, firstXID)
		}
		if t.FullXID != 0 && uint32(t.FullXID) != t.XID {
			return fmt.Errorf("transaction id %d is not the lower half of %d", t.XID, t.FullXID)
		}
	case Name:
		return validateName(t.Name)
	default:
		return fmt.Errorf("unknown kind of target %q", t.Kind)
	}
	return nil
}

func validateName(name string) error {
	switch {
	case name == "":
		return errors.New("the restore point's name is missing")
	case len(name) > maxName:
		return fmt.Errorf("the restore point's name is %d bytes long: PostgreSQL allows %d", len(name), maxName)
	case strings.ContainsRune(name, 0):
		return errors.New("the restore point's name contains a zero byte")
	}
	return nil
}

// timeline is the number asked for, 0 if none, and whether it is the backup's own.
func (t Target) timeline() (tli wal.TimelineID, current bool, err error) {
	switch t.Timeline {
	case "", LatestTimeline:
		return 0, false, nil
	case CurrentTimeline:
		return 0, true, nil
	}
	tli, err = wal.ParseTimelineID(t.Timeline)
	if err != nil {
		return 0, false, fmt.Errorf("timeline %q is neither a decimal number nor %q nor %q", t.Timeline, LatestTimeline, CurrentTimeline)
	}
	return tli, false, nil
}

// ParseXID reads a transaction id: 32 bits, or the 64 bits with epoch that
// pg_current_xact_id() returns. The WAL has the lower half; full is 0 where there is no epoch, or the first.
func ParseXID(s string) (xid uint32, full uint64, err error) {
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil || s[0] == '+' {
		return 0, 0, fmt.Errorf("%q is not a transaction id: a decimal number is wanted", s)
	}
	if uint32(v) < firstXID {
		return 0, 0, fmt.Errorf("%q is not the id of a transaction: they begin at %d", s, firstXID)
	}
	if v > math.MaxUint32 {
		full = v
	}
	return uint32(v), full, nil
}

// String describes the target in words: "time 2026-11-22 09:00:00+00", "just before LSN 0/3000028".
func (t Target) String() string {
	before := ""
	if t.Exclusive {
		before = "just before "
	}
	switch t.Kind {
	case Latest:
		return "the end of the archived WAL"
	case Immediate:
		return "the earliest consistent moment"
	case Time:
		return before + "time " + FormatTime(t.Time)
	case LSN:
		return before + "LSN " + t.LSN.String()
	case XID:
		return before + "transaction " + t.Value()
	case Name:
		return "restore point " + strconv.Quote(t.Name)
	}
	return string(t.Kind)
}

// Value is the target's value as text, as it is given on the command line; ""
// for the kinds that have none.
func (t Target) Value() string {
	switch t.Kind {
	case Time:
		return FormatTime(t.Time)
	case LSN:
		return t.LSN.String()
	case XID:
		return strconv.FormatUint(max(t.FullXID, uint64(t.XID)), 10)
	case Name:
		return t.Name
	}
	return ""
}
