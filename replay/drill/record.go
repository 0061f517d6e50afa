package drill

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/walden-pg/walden/replay/plan"
	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
)

// State is what came of a check.
type State string

// The states.
const (
	Passed  State = "passed"
	Failed  State = "failed"
	Skipped State = "skipped" // it was not made; the text says why
)

// The checks.
const (
	CheckPlan         = "plan"         // the moment can be reached
	CheckRestore      = "restore"      // every byte of the backup is there and sound
	CheckStop         = "stop"         // recovery ended at the very record
	CheckTransactions = "transactions" // the commit before the stop is there, the one after is not
	CheckAssertion    = "assertion"
	CheckAmcheck      = "amcheck"
	CheckChecksums    = "checksums"
	CheckRTO          = "rto"
	CheckRPO          = "rpo"
	CheckDrill        = "drill"    // it could be carried out; only told where it could not
	CheckScenario     = "scenario" // what was expected of a scenario has happened
)

// Check is one thing that was looked at.
type Check struct {
	Name  string `json:"check"`
	State State  `json:"state"`
	// Text says in a sentence what was found, or proved.
	Text string `json:"text"`
	// Details are further lines, such as those of a program.
	Details []string `json:"details,omitempty"`
	Seconds float64  `json:"seconds"`
}

// Result is what came of a drill.
type Result string

// The results.
const (
	Proven      Result = "proven"
	NotProven   Result = "failed"
	Interrupted Result = "interrupted"
)

// formatVersion is that of the JSON.
const formatVersion = 1

// Record is what is known of a drill. It encodes as the object in the repository and as the JSON of
// `drill`.
type Record struct {
	Format int `json:"format"`
	// ID is the last part of the object's key.
	ID   string    `json:"id"`
	Time time.Time `json:"time"` // when it began
	// Host is where it ran, Runner how, Version walden's.
	Host    string `json:"host"`
	Runner  string `json:"runner"`
	Image   string `json:"image,omitempty"` // of runner docker
	Version string `json:"version,omitempty"`

	Cluster     string `json:"cluster"`
	Incarnation int    `json:"incarnation"`
	// Scenario is the name of one, Expected and Happened what was to come of it, and what came.
	Scenario Scenario `json:"scenario,omitempty"`
	Expected string   `json:"expected,omitempty"`
	Happened string   `json:"happened,omitempty"`
	// Pick is how the target was chosen; Target is it in words, Flags as on the command line.
	Pick   Pick   `json:"pick,omitempty"`
	Target string `json:"target"`
	Flags  string `json:"flags"`

	Result Result `json:"result"`
	// Failure is the text of the first check that failed.
	Failure string `json:"failure,omitempty"`

	// Backup is what was restored, Stop where recovery had to end; empty where no plan could be made.
	Backup string      `json:"backup,omitempty"`
	Major  int         `json:"major,omitempty"`
	Stop   *StopRecord `json:"stop,omitempty"`

	Files         int64 `json:"files"`
	Bytes         int64 `json:"bytes"`
	DownloadBytes int64 `json:"download_bytes"`
	// WALBytes is how much WAL was replayed.
	WALBytes int64 `json:"wal_bytes"`

	PlanSeconds    float64 `json:"plan_seconds"`
	RestoreSeconds float64 `json:"restore_seconds"`
	ReplaySeconds  float64 `json:"replay_seconds"`
	CheckSeconds   float64 `json:"check_seconds"`
	// Seconds is the whole drill.
	Seconds float64 `json:"seconds"`

	Loss *Loss `json:"loss,omitempty"`
	// RTOSeconds and RPOSeconds are the objectives; 0: there were none.
	RTOSeconds float64 `json:"rto_seconds,omitempty"`
	RPOSeconds float64 `json:"rpo_seconds,omitempty"`

	Checks   []Check  `json:"checks"`
	Warnings []string `json:"warnings,omitempty"`
}

// StopRecord is the place that recovery had to come to.
type StopRecord struct {
	Timeline wal.TimelineID `json:"timeline"`
	// LSN is where the record starts that stops recovery, Before whether it is left out;
	// 0/0: the end of the WAL. End is up to where WAL is replayed.
	LSN    wal.LSN `json:"lsn"`
	Before bool    `json:"before"`
	End    wal.LSN `json:"end"`
	// Kept is the last commit before the stop, Lost the first after it.
	Kept *plan.Transaction `json:"last_kept,omitempty"`
	Lost *plan.Transaction `json:"first_lost,omitempty"`
}

// Ready is how long it took until the server could be used.
func (r *Record) Ready() time.Duration {
	return time.Duration((r.PlanSeconds + r.RestoreSeconds + r.ReplaySeconds) * float64(time.Second))
}

func (r *Record) add(c Check) {
	r.Checks = append(r.Checks, c)
	if c.State == Failed && r.Failure == "" {
		r.Failure = c.Text
	}
}

// conclude sets the result.
func (r *Record) conclude() {
	r.Result = Proven
	for _, c := range r.Checks {
		if c.State == Failed {
			r.Result = NotProven
		}
	}
}

func prefix(inc archive.Incarnation) string { return inc.Prefix() + "drills/" }

// keyTime begins the keys, so that they are in order of time, but within a second.
const keyTime = "20060102T150405Z"

func newID(t time.Time) string {
	return t.UTC().Format(keyTime) + "-" + strings.ToLower(rand.Text()[:8])
}

// maxSize bounds a record.
const maxSize = 4 << 20

// store writes the record.
func store(ctx context.Context, repo *repository.Repository, inc archive.Incarnation, r *Record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("drill: record: %w", err)
	}
	if _, err := repo.Put(ctx, prefix(inc)+r.ID, b, repository.ObjectOptions{Kind: frame.KindRecord}); err != nil {
		return fmt.Errorf("drill: the record cannot be stored: %w", err)
	}
	return nil
}

// Unreadable is a record that is there and cannot be read.
type Unreadable struct {
	ID    string `json:"id"`
	Error string `json:"error"`
}

// Load reads the records of an incarnation from a time on, oldest first; the zero time: all. The
// error is one of the store.
func Load(ctx context.Context, repo *repository.Repository, inc archive.Incarnation, from time.Time) ([]*Record, []Unreadable, error) {
	var ids []string
	after := ""
	if !from.IsZero() {
		after = prefix(inc) + from.UTC().Format(keyTime)
	}
	for info, err := range repo.Store().List(ctx, prefix(inc), after) {
		if err != nil {
			return nil, nil, fmt.Errorf("drill: list of the records: %w", err)
		}
		ids = append(ids, strings.TrimPrefix(info.Key, prefix(inc)))
	}
	records := make([]*Record, len(ids))
	faults := make([]error, len(ids))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for i, id := range ids {
		g.Go(func() error {
			r, err := read(gctx, repo, inc, id)
			var fault *storage.Error
			if errors.As(err, &fault) && !errors.Is(err, storage.ErrNotExist) {
				return err
			}
			records[i], faults[i] = r, err
			return gctx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return nil, nil, fmt.Errorf("drill: %w", err)
	}
	var list []*Record
	var unreadable []Unreadable
	for i, r := range records {
		if faults[i] != nil {
			unreadable = append(unreadable, Unreadable{ID: ids[i], Error: faults[i].Error()})
			continue
		}
		list = append(list, r)
	}
	// Keys tell seconds only.
	slices.SortStableFunc(list, func(a, b *Record) int { return a.Time.Compare(b.Time) })
	return list, unreadable, nil
}

func read(ctx context.Context, repo *repository.Repository, inc archive.Incarnation, id string) (*Record, error) {
	b, err := repo.Read(ctx, prefix(inc)+id, frame.KindRecord, maxSize)
	if err != nil {
		return nil, err
	}
	r := &Record{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("record %s: %w", id, err)
	}
	if r.Format != formatVersion {
		return nil, fmt.Errorf("record %s has format %d, this walden knows %d", id, r.Format, formatVersion)
	}
	r.ID = id
	return r, nil
}
