package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
)

const (
	recordFormat = 1
	recordDir    = "verified/"
	// maxRecord bounds the raw bytes of a record that is read.
	maxRecord = 256 << 20
	// keptRecords is how many records stay: should the newest be damaged, an older one
	// serves in its place, and where there are fewer, one has gone.
	keptRecords = 3
	// recordedFindings bounds the findings in a record.
	recordedFindings = 1000
)

// record is what a run leaves (docs/format.md, verified/).
type record struct {
	Format int `json:"format"`
	// Began is when the run began, Updated when this was written.
	Began   time.Time `json:"began"`
	Updated time.Time `json:"updated"`
	// Since is when the reading of every object began that is still going on, perhaps in
	// an earlier run; nil: the last one came to its end.
	Since   *time.Time    `json:"since,omitempty"`
	Objects []recordedDir `json:"objects"`
	// Gone are objects that were there once and that have gone: they are told of until they are
	// back, or their loss is accepted.
	Gone []goneObject `json:"gone,omitempty"`
	// Suspects are objects that are there and that were found wanting: every run reads them whole,
	// the quick form too, so that what is known is not forgotten.
	Suspects []string         `json:"suspects,omitempty"`
	Backups  []recordedBackup `json:"backups"`
	// Partials, Histories and Backups tell, should one go, which moments it made restorable.
	Partials  []recordedPartial `json:"partials,omitempty"`
	Histories []recordedHistory `json:"histories,omitempty"`
	Findings  []Finding         `json:"findings,omitempty"`

	number    uint32
	inventory *inventory
}

type recordedDir struct {
	Dir  string        `json:"dir"`
	Runs []recordedRun `json:"runs"`
}

// goneObject is an object below the incarnation's prefix, and when it was last seen.
type goneObject struct {
	Object string    `json:"object"`
	Seen   time.Time `json:"seen"`
}

type recordedRun struct {
	First string     `json:"first"`
	Last  string     `json:"last,omitempty"`
	Read  *time.Time `json:"read,omitempty"`
}

// recordedBackup is what was known of a complete backup: should its manifest go, this
// tells which moments it made restorable.
type recordedBackup struct {
	catalog.Backup
	Validation Validation `json:"validation"`
}

// recordedPartial is a partial segment, and where the WAL in it ends.
type recordedPartial struct {
	Segment string  `json:"segment"`
	End     wal.LSN `json:"end_lsn"`
}

// recordedHistory is a timeline's history file.
type recordedHistory struct {
	Timeline wal.TimelineID `json:"timeline"`
	Content  string         `json:"content"`
}

// recordNumber takes apart the key of a record below the incarnation's prefix.
func recordNumber(rest string) (uint32, bool) {
	name := strings.TrimPrefix(rest, recordDir)
	n, err := strconv.ParseUint(name, 16, 32)
	return uint32(n), err == nil && n > 0 && fmt.Sprintf("%s%08X", recordDir, n) == rest
}

func recordKey(inc archive.Incarnation, n uint32) string {
	return fmt.Sprintf("%s%s%08X", inc.Prefix(), recordDir, n)
}

// encode prepares the record for storing.
func (r *record) encode() ([]byte, error) {
	r.Objects = []recordedDir{}
	for _, dir := range r.inventory.order {
		d := recordedDir{Dir: dir}
		for _, x := range r.inventory.dirs[dir] {
			stored := recordedRun{First: x.first, Read: moment(x.read)}
			if x.last != x.first {
				stored.Last = x.last
			}
			d.Runs = append(d.Runs, stored)
		}
		r.Objects = append(r.Objects, d)
	}
	return json.Marshal(r)
}

// decodeRecord reads what encode wrote.
func decodeRecord(b []byte) (*record, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	r := &record{inventory: newInventory()}
	if err := d.Decode(r); err != nil {
		return nil, err
	}
	if r.Format != recordFormat {
		return nil, fmt.Errorf("format %d is not known, only %d", r.Format, recordFormat)
	}
	for _, dir := range r.Objects {
		if _, twice := r.inventory.dirs[dir.Dir]; twice || dir.Dir != "" && !strings.HasSuffix(dir.Dir, "/") {
			return nil, fmt.Errorf("its directory %q makes no sense", dir.Dir)
		}
		var runs []run
		for _, stored := range dir.Runs {
			x := run{first: stored.First, last: stored.Last}
			if x.last == "" {
				x.last = x.first
			}
			if stored.Read != nil {
				x.read = stored.Read.UnixMilli()
			}
			if n := len(runs); x.first == "" || !x.counts() || n > 0 && runs[n-1].last >= x.first {
				return nil, fmt.Errorf("its run of objects from %q to %q makes no sense", x.first, x.last)
			}
			runs = append(runs, x)
		}
		r.inventory.order = append(r.inventory.order, dir.Dir)
		r.inventory.dirs[dir.Dir] = runs
	}
	r.Objects = nil
	return r, nil
}

// loadRecord reads one record. Damage is a *frame.Error or a *RecordError.
func loadRecord(ctx context.Context, repo *repository.Repository, inc archive.Incarnation, n uint32) (*record, error) {
	key := recordKey(inc, n)
	b, err := repo.Read(ctx, key, frame.KindRecord, maxRecord)
	if err != nil {
		return nil, fmt.Errorf("read the record of a verification: %w", err)
	}
	r, err := decodeRecord(b)
	if err != nil {
		return nil, &RecordError{Object: key, Err: err}
	}
	r.number = n
	return r, nil
}

// RecordError says that an object is whole and not the record of a verification.
type RecordError struct {
	Object string
	Err    error
}

// Error names the object.
func (e *RecordError) Error() string {
	return fmt.Sprintf("object %s is not the record of a verification: %v", e.Object, e.Err)
}

// Unwrap returns what is wrong.
func (e *RecordError) Unwrap() error { return e.Err }

// recordNumbers lists the records, newest first.
func recordNumbers(ctx context.Context, repo *repository.Repository, inc archive.Incarnation) ([]uint32, error) {
	var list []uint32
	for info, err := range repo.Store().List(ctx, inc.Prefix()+recordDir, "") {
		if err != nil {
			return nil, fmt.Errorf("list the records of verifications: %w", err)
		}
		if n, ok := recordNumber(strings.TrimPrefix(info.Key, inc.Prefix())); ok {
			list = append(list, n)
		}
	}
	slices.Reverse(list)
	return list, nil
}

// newestRecord reads the newest record that can be read; nil: there is none.
func newestRecord(ctx context.Context, repo *repository.Repository, inc archive.Incarnation) (*record, error) {
	list, err := recordNumbers(ctx, repo, inc)
	if err != nil {
		return nil, err
	}
	for _, n := range list {
		r, err := loadRecord(ctx, repo, inc, n)
		switch {
		case err == nil:
			return r, nil
		case isFault(err):
			return nil, err
		}
		// Damaged, or superseded meanwhile: the walk over all objects tells of damage.
	}
	return nil, nil
}

// publish stores the record under the next number and removes the oldest ones.
func (r *record) publish(ctx context.Context, repo *repository.Repository, inc archive.Incarnation) error {
	b, err := r.encode()
	if err != nil {
		return fmt.Errorf("encode the record of this verification: %w", err)
	}
	for {
		list, err := recordNumbers(ctx, repo, inc)
		if err != nil {
			return err
		}
		next := uint32(1)
		if len(list) > 0 {
			next = list[0] + 1
		}
		if next == 0 {
			return errors.New("store the record of this verification: there is no further number")
		}
		_, err = repo.Put(ctx, recordKey(inc, next), b, repository.ObjectOptions{Kind: frame.KindRecord})
		if errors.Is(err, storage.ErrExist) {
			continue // another run was faster
		}
		if err != nil {
			return fmt.Errorf("store the record of this verification: %w", err)
		}
		r.number = next
		return r.prune(ctx, repo, inc, list)
	}
}

// prune removes the records before the last few. Who may not delete leaves them.
func (r *record) prune(ctx context.Context, repo *repository.Repository, inc archive.Incarnation, older []uint32) error {
	for i, n := range older {
		if i < keptRecords-1 {
			continue
		}
		if err := repo.Store().Delete(ctx, recordKey(inc, n)); err != nil && ctx.Err() != nil {
			return fmt.Errorf("remove an old record: %w", err)
		}
	}
	return nil
}

// Validations is what the newest record says of backups, by id: see Validation. Without
// a record it is empty.
func Validations(ctx context.Context, repo *repository.Repository, inc archive.Incarnation) (map[string]Validation, error) {
	r, err := newestRecord(ctx, repo, inc)
	if err != nil || r == nil {
		return nil, err
	}
	all := make(map[string]Validation, len(r.Backups))
	for _, b := range r.Backups {
		all[b.ID] = b.Validation
	}
	return all, nil
}

// isFault tells what is wrong with the store from what is wrong with an object, or
// that it is not there.
func isFault(err error) bool {
	return archive.IsStoreFault(err) && !errors.Is(err, storage.ErrOffset) && !errors.Is(err, storage.ErrTooLarge)
}
