//go:build unix

package drill

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/replay/databases"
	"github.com/walden-pg/walden/replay/plan"
	"github.com/walden-pg/walden/replay/recovery"
	"github.com/walden-pg/walden/replay/scratch"
	"github.com/walden-pg/walden/storage/repository"
)

// kind is that of the scratch directories here.
const kind = "drill"

// drill is one drill.
type drill struct {
	Options
	log      *slog.Logger
	record   *Record
	began    time.Time
	source   *repository.Repository // what is restored from: in a scenario it is shown with damage
	overlay  string                 // the file that says so; "": there is no damage
	archived *archived
	plan     *plan.Plan
	manifest *basebackup.Manifest
	contents *databases.Contents
	scratch  *scratch.Dir
	// containers is how programs are run, nil: as they are.
	containers *containers
	outcome    *recovery.Outcome
	role       string // a superuser of the server in scratch
	entered    string // a database of it
}

func run(ctx context.Context, o Options) (*Record, error) {
	d := &drill{Options: o, log: o.Logger, began: time.Now(), source: o.Repo}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if d.Scratch == "" {
		d.Scratch = os.TempDir()
	}
	host, _ := os.Hostname() // for people; it may be missing
	d.record = &Record{
		Format: formatVersion, ID: newID(d.began), Time: d.began.UTC().Truncate(time.Microsecond), Host: host, Runner: "local", Version: o.Version,
		Cluster: o.Incarnation.Cluster, Incarnation: o.Incarnation.Number, Pick: o.Pick, Scenario: o.Scenario, Expected: expected[o.Scenario],
		RTOSeconds: o.RTO.Seconds(), RPOSeconds: o.RPO.Seconds(), Checks: []Check{},
	}
	if err := d.prepare(ctx); err != nil {
		return nil, err
	}
	err := d.execute(ctx)
	var cannot *ScenarioError
	if errors.As(err, &cannot) {
		return nil, err
	}
	r := d.record
	if err != nil && ctx.Err() == nil {
		r.add(Check{Name: CheckDrill, State: Failed, Text: "the drill could not be carried out: " + err.Error()})
	}
	r.Seconds = time.Since(d.began).Seconds()
	r.conclude()
	if ctx.Err() != nil {
		r.Result = Interrupted
		err = errors.Join(fmt.Errorf("drill: %w", context.Cause(ctx)), err)
	}
	// Also who was interrupted says so, if he can.
	putting, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return r, errors.Join(err, store(putting, o.Repo, o.Incarnation, r))
}

// prepare clears up after others, decides on the target, and makes the plan.
func (d *drill) prepare(ctx context.Context) error {
	d.report(Planning, "", 0, 0)
	if _, err := os.ReadDir(d.Scratch); err != nil {
		return fmt.Errorf("drill: scratch: %w", err)
	}
	d.sweep()
	var at *position
	var failed error
	if d.Connection != "" {
		p, err := ask(ctx, d.Connection, d.Incarnation)
		if at, failed = &p, err; err != nil {
			at = nil
		}
	}
	var err error
	if d.archived, err = look(ctx, d.Repo, d.Incarnation); err != nil {
		return err
	}
	d.record.Loss = lossOf(d.archived.windows, d.Incarnation.SegmentSize, at, failed, d.began)
	if err := d.aim(); err != nil {
		return err
	}
	if d.Pick != "" {
		if d.Target, err = d.archived.pick(ctx, d.Pick, d.Target); err != nil {
			return err
		}
	}
	return d.makePlan(ctx)
}

// sweep removes what drills that were killed have left.
func (d *drill) sweep() {
	removed, err := scratch.Sweep(d.Scratch, kind, d.BinDir)
	for _, path := range removed {
		d.warn("removed what a drill that was killed had left: " + path)
	}
	if err != nil {
		d.warn(err.Error()) // what is in the way of another's remains is no reason not to work
	}
}

func (d *drill) warn(s string) { d.record.Warnings = append(d.record.Warnings, s) }

// makePlan plans. That there is no way to a moment is a finding, unless it was named and does
// not exist.
func (d *drill) makePlan(ctx context.Context) error {
	began := time.Now()
	d.record.Target, d.record.Flags = d.Target.String(), flags(d.Target)
	p, err := d.archived.prove(ctx, d.Target)
	d.record.PlanSeconds = time.Since(began).Seconds()
	var (
		beyond    *plan.UnreachableError
		ambiguous *plan.AmbiguousError
		none      *plan.NoBackupError
		gap       *plan.GapError
	)
	switch {
	case errors.As(err, &none) && none.Absent(), errors.As(err, &ambiguous), errors.As(err, &beyond) && d.Pick == "":
		return err
	case errors.As(err, &none), errors.As(err, &beyond), errors.As(err, &gap):
		d.record.add(Check{Name: CheckPlan, State: Failed, Text: "the moment cannot be restored: " + err.Error(), Seconds: d.record.PlanSeconds})
		return nil
	case err != nil:
		return err
	}
	d.record.Warnings = append(d.record.Warnings, p.Warnings...)
	if err := d.use(ctx, p); err != nil {
		return err
	}
	d.record.add(Check{Name: CheckPlan, State: Passed, Seconds: d.record.PlanSeconds,
		Text: fmt.Sprintf("the WAL is unbroken from backup %s on, for %d segments, to the stop at %s", p.Backup.ID, p.Segments, p.Stop.End)})
	return nil
}

// use makes a plan the one that is carried out.
func (d *drill) use(ctx context.Context, p *plan.Plan) (err error) {
	d.plan = p
	r := d.record
	r.Backup, r.Major = p.Backup.ID, p.Backup.ServerVersion/10000
	r.Stop = &StopRecord{Timeline: p.Stop.Timeline, LSN: p.Stop.LSN, Before: p.Stop.Before, End: p.Stop.End}
	if d.manifest, err = basebackup.Load(ctx, d.Repo, d.Incarnation, p.Backup.ID); err != nil {
		return fmt.Errorf("drill: %w", err)
	}
	if d.Docker != nil {
		return d.readyDocker(ctx)
	}
	d.BinDir, err = recovery.FindBinaries(ctx, d.manifest.Major, d.BinDir)
	return err
}

// execute does what happens in scratch. Findings are in the record.
func (d *drill) execute(ctx context.Context) error {
	defer d.judgeRPO()
	switch {
	case d.plan == nil:
		return nil
	case d.Scenario != "":
		return d.play(ctx)
	}
	return d.inScratch(func() error { d.whole(ctx); return nil })
}

// judgeRTO holds the time until the server could be used against its objective.
func (d *drill) judgeRTO() {
	if d.RTO == 0 {
		return
	}
	took := round(d.record.Ready().Seconds())
	if d.record.Ready() > d.RTO {
		d.record.add(Check{Name: CheckRTO, State: Failed, Text: fmt.Sprintf("the objective was missed: the cluster was back after %s, and should be within %s", took, d.RTO)})
		return
	}
	d.record.add(Check{Name: CheckRTO, State: Passed, Text: fmt.Sprintf("the cluster was back after %s, the objective is %s", took, d.RTO)})
}

// judgeRPO holds the loss against its objective.
func (d *drill) judgeRPO() {
	l := d.record.Loss
	switch {
	case d.RPO == 0:
	case l.Seconds < 0:
		d.record.add(Check{Name: CheckRPO, State: Failed, Text: "that the objective is met cannot be shown: what would be lost is " + l.Text})
	case l.Seconds > d.RPO.Seconds():
		d.record.add(Check{Name: CheckRPO, State: Failed, Text: fmt.Sprintf("the objective was missed: %s may be lost, and should be the loss of %s at most. What would be lost is %s", round(l.Seconds), d.RPO, l.Text)})
	default:
		d.record.add(Check{Name: CheckRPO, State: Passed, Text: fmt.Sprintf("what would be lost is %s; the objective is %s", l.Text, d.RPO)})
	}
}

func (d *drill) report(s Stage, detail string, done, total int64) {
	if d.Progress != nil {
		d.Progress(Progress{Stage: s, Detail: detail, Done: done, Total: total})
	}
}

// messages are lines of a server's log or a program's output that are kept.
const messages = 20
