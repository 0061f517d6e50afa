package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/replay/find"
	"github.com/walden-pg/walden/replay/plan"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/index"
	"github.com/walden-pg/walden/wal/names"
)

func (e *environment) findCommand() *cli.Command {
	return &cli.Command{
		Name:  "find",
		Usage: "tells what happened when, with the exact targets to restore to just before and after",
		Description: "Reads the indexes of the archived WAL. Lists drops, truncations, changes of many rows, restore points, promotions and\n" +
			"transactions left prepared; --kind chooses others. Each comes with flags for `walden plan`, `walden restore` and `walden extract`.\n" +
			"Names are those of the snapshots that backup and stream take; what none of them has is told by its numbers.\n\n" +
			"Kinds: drop, truncate, rewrite, delete, update, insert, create (of tables), drop-database, create-database, move-database,\n" +
			"drop-tablespace, restore-point, promotion, prepared, backup, checkpoint, settings, commit, abort; all.",
		CustomHelpTemplate: commandHelpTemplate(findExitCodes),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "table", Usage: "only what was done to the table `NAME`: name, schema.name, database.schema.name, its OID, or the number of its file", DefaultText: "all"},
			&cli.StringFlag{Name: "kind", Usage: "only these `KINDS`, with commas between them", DefaultText: "what matters most"},
			&cli.StringFlag{Name: "from", Usage: "from the time `T` on, as --time of restore: '2026-11-22 10:02:00+01', -15m", DefaultText: "the beginning"},
			&cli.StringFlag{Name: "to", Usage: "up to the time `T`", DefaultText: "the end"},
			&cli.StringFlag{Name: "database", Usage: "only transactions in the database `NAME`, which can be its OID", DefaultText: "all"},
			&cli.StringFlag{Name: "xid", Usage: "only the transaction `XID`, which can be a subtransaction's", DefaultText: "all"},
			&cli.Uint64Flag{Name: "min-rows", Usage: "only changes of at least `N` rows of a table", DefaultText: fmt.Sprintf("%d; 1 with --table, --kind or --xid", find.DefaultMinRows)},
			&cli.StringFlag{Name: "timeline", Usage: "only the way to timeline `TLI`, a number", DefaultText: "all timelines"},
			&cli.IntFlag{Name: "limit", Usage: "only the last `N` events", DefaultText: "all"},
			&cli.IntFlag{Name: "incarnation", Usage: incarnationFlagUsage, DefaultText: "the newest"},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			return e.find(c)
		},
	}
}

// parseFind reads the flags of find.
func parseFind(c *cli.Context, now time.Time) (o find.Options, err error) {
	refuse := func(err error) (find.Options, error) { return find.Options{}, &usageError{err} }
	if s := c.String("table"); s != "" {
		if o.Table, err = find.ParsePattern(s); err != nil {
			return refuse(err)
		}
	}
	if s := c.String("kind"); s != "" {
		if o.Kinds, err = find.ParseKinds(s); err != nil {
			return refuse(err)
		}
	}
	for name, t := range map[string]*time.Time{"from": &o.From, "to": &o.To} {
		if s := c.String(name); s != "" {
			if *t, err = plan.ParseTime(s, now); err != nil {
				return refuse(fmt.Errorf("--%s: %w", name, err))
			}
		}
	}
	if s := c.String("xid"); s != "" {
		if o.XID, _, err = plan.ParseXID(s); err != nil {
			return refuse(err)
		}
	}
	if s := c.String("timeline"); s != "" {
		if o.Timeline, err = wal.ParseTimelineID(s); err != nil {
			return refuse(fmt.Errorf("timeline %q is not a decimal number", s))
		}
	}
	if c.Int("limit") < 0 {
		return refuse(fmt.Errorf("--limit %d: it must not be negative", c.Int("limit")))
	}
	o.Database, o.MinRows = c.String("database"), c.Uint64("min-rows")
	if err := o.Validate(); err != nil {
		return refuse(err)
	}
	return o, nil
}

func (e *environment) find(c *cli.Context) error {
	o, err := parseFind(c, time.Now())
	if err != nil {
		return err
	}
	t, err := e.selectCluster()
	if err != nil {
		return err
	}
	repo, inc, err := t.openIncarnation(c.Context, c.Int("incarnation"))
	if err != nil {
		return err
	}
	src, err := openFindSource(c.Context, repo, inc)
	if err != nil {
		return err
	}
	var out findOutput = &findText{w: e.stdout}
	if e.json {
		spool, err := newSpool()
		if err != nil {
			return err
		}
		defer spool.Close()
		out = &findJSON{stdout: e.stdout, spool: spool, w: bufio.NewWriter(spool), cluster: inc.Cluster, incarnation: inc.Number}
	}
	kept := &lastEvents{limit: c.Int("limit"), out: out}
	sum, err := find.Run(c.Context, src.Source, o, kept.event)
	if err != nil {
		return err
	}
	if err := kept.flush(); err != nil {
		return err
	}
	tail := findTail{Summary: sum, Snapshots: src.snapshots, Unnamed: src.unread()}
	if err := out.end(tail, o); err != nil {
		return err
	}
	if tail.incomplete() {
		return errFindings
	}
	return nil
}

// findSource is a find.Source, and what it has learned about names.
type findSource struct {
	find.Source
	snapshots int
	resolvers []*names.Resolver
}

func openFindSource(ctx context.Context, repo *repository.Repository, inc archive.Incarnation) (*findSource, error) {
	r := catalog.NewReader(repo, archive.New(repo, inc), 0)
	snap, err := r.Load(ctx)
	if err != nil {
		return nil, err
	}
	known, err := names.Open(ctx, repo, inc, 0)
	if err != nil {
		return nil, err
	}
	s := &findSource{snapshots: len(known.List())}
	s.Source = find.Source{
		Snapshot: snap,
		Read: func(ctx context.Context, segs []wal.Segment, use func(wal.Segment, *index.Index, error) error) error {
			return r.Read(ctx, snap, segs, use)
		},
		Names: func(h wal.History) find.Names {
			v := known.Resolver(ctx, h)
			s.resolvers = append(s.resolvers, v)
			return v
		},
	}
	return s, nil
}

// unread says what is wrong with snapshots of names that could not be read.
func (s *findSource) unread() []string {
	list := []string{}
	for _, v := range s.resolvers {
		if err := v.Err(); err != nil {
			list = append(list, err.Error())
		}
	}
	return list
}

// findTail is what follows the events.
type findTail struct {
	*find.Summary
	// Snapshots is how many snapshots of names there are.
	Snapshots int `json:"name_snapshots"`
	// Unnamed says which of them could not be read.
	Unnamed []string `json:"name_problems"`
}

// incomplete reports whether something may have happened that is not told.
func (t findTail) incomplete() bool {
	return len(t.Gaps) > 0 || len(t.Unnamed) > 0 || t.Forgotten > 0
}

// findOutput shows events as they are found, and then the rest.
type findOutput interface {
	event(ev find.Event) error
	end(t findTail, o find.Options) error
}

// lastEvents passes events on, or with a limit keeps the last ones for later.
type lastEvents struct {
	limit int
	out   findOutput
	ring  []find.Event
	next  int
}

func (l *lastEvents) event(ev find.Event) error {
	switch {
	case l.limit == 0:
		return l.out.event(ev)
	case len(l.ring) < l.limit:
		l.ring = append(l.ring, ev)
	default:
		l.ring[l.next] = ev
		l.next = (l.next + 1) % l.limit
	}
	return nil
}

func (l *lastEvents) flush() error {
	for i := range l.ring {
		if err := l.out.event(l.ring[(l.next+i)%len(l.ring)]); err != nil {
			return err
		}
	}
	return nil
}

// findJSON makes one document, event by event. It is shown when it is whole: an error on the
// way is a document of its own. There can be many events, so it waits in a file.
type findJSON struct {
	stdout      io.Writer
	spool       *os.File
	w           *bufio.Writer
	cluster     string
	incarnation int
	begun       bool
}

// newSpool is a temporary file without a name.
func newSpool() (*os.File, error) {
	f, err := os.CreateTemp("", "walden-find-*.json")
	if err != nil {
		return nil, fmt.Errorf("temporary file for the events: %w", err)
	}
	// Where a file in use cannot be removed, it stays: on Windows.
	_ = os.Remove(f.Name())
	return f, nil
}

func (f *findJSON) write(format string, args ...any) error {
	if _, err := fmt.Fprintf(f.w, format, args...); err != nil {
		return fmt.Errorf("temporary file for the events: %w", err)
	}
	return nil
}

// show copies what was written to standard output.
func (f *findJSON) show() error {
	if err := f.w.Flush(); err != nil {
		return fmt.Errorf("temporary file for the events: %w", err)
	}
	if _, err := f.spool.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("temporary file for the events: %w", err)
	}
	if _, err := io.Copy(f.stdout, f.spool); err != nil {
		return fmt.Errorf("standard output: %w", err)
	}
	return nil
}

func (f *findJSON) begin() error {
	name, err := json.Marshal(f.cluster)
	if err != nil {
		return err
	}
	return f.write("{\n  \"cluster\": %s,\n  \"incarnation\": %d,\n  \"events\": [", name, f.incarnation)
}

func (f *findJSON) event(ev find.Event) error {
	sep := ",\n    "
	if !f.begun {
		if err := f.begin(); err != nil {
			return err
		}
		f.begun, sep = true, "\n    "
	}
	b, err := json.MarshalIndent(ev, "    ", "  ")
	if err != nil {
		return err
	}
	return f.write("%s%s", sep, b)
}

func (f *findJSON) end(t findTail, _ find.Options) error {
	closing := "\n  ],"
	if !f.begun {
		if err := f.begin(); err != nil {
			return err
		}
		closing = "],"
	}
	b, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return err
	}
	// The document goes on with the keys of t.
	if err := f.write("%s%s\n", closing, b[1:]); err != nil {
		return err
	}
	return f.show()
}
