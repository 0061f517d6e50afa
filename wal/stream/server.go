package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walden-pg/walden/internal/server"
	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/wal"
)

// upstream is an idle replication connection and what the server said on it.
type upstream struct {
	pg       *pgconn.PgConn
	host     server.Host
	timeline wal.TimelineID
	end      wal.LSN // of the server's WAL
	version  int     // server_version_num
	// synchronous is synchronous_standby_names.
	synchronous string
	// statusInterval is how often the server must hear from us.
	statusInterval time.Duration
	history        wal.History
	// giveUp bounds how long the server may take for an answer.
	giveUp time.Duration
}

// statusInterval is how often a server hears from us that sets no shorter limit.
const statusInterval = 10 * time.Second

// connect opens a replication connection to the first host of the connection
// string that will do, and asks who it is. Those that said nothing when they were
// last asked come last.
func (r *Receiver) connect(ctx context.Context) (*upstream, error) {
	pg, host, err := server.ConnectFirst(ctx, r.o.Conninfo, server.Replication, func(c *pgconn.Config) {
		// Idle between two commands is normal here.
		c.RuntimeParams["idle_session_timeout"] = "0"
		for _, h := range r.silent {
			server.TryLast(c, h)
		}
	})
	if err != nil {
		return nil, err
	}
	u := &upstream{pg: pg, host: host, giveUp: r.patience.giveUp}
	if err := u.ask(ctx, r); err != nil {
		u.close()
		return nil, err
	}
	return u, nil
}

func (u *upstream) close() { closeSoon(u.pg) }

// closeSoon says goodbye, without waiting long for a server that is gone.
func closeSoon(c *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = c.Close(ctx)
}

// ask learns who the server is, and refuses one of another cluster.
func (u *upstream) ask(ctx context.Context, r *Receiver) error {
	row, err := u.row(ctx, "IDENTIFY_SYSTEM", 3)
	if err != nil {
		return err
	}
	id, err := strconv.ParseUint(row[0], 10, 64)
	if err != nil {
		return fmt.Errorf("system identifier %q: %w", row[0], err)
	}
	tli, err := strconv.ParseUint(row[1], 10, 32)
	if err != nil {
		return fmt.Errorf("timeline %q: %w", row[1], err)
	}
	u.timeline = wal.TimelineID(tli)
	if u.end, err = wal.ParseLSN(row[2]); err != nil {
		return err
	}
	text, err := u.show(ctx, "wal_segment_size")
	if err != nil {
		return err
	}
	size, err := wal.ParseSegmentSize(text)
	if err != nil {
		return err
	}
	if inc := r.o.Archive.Incarnation(); id != inc.SystemID || size != inc.SegmentSize {
		return &ForeignServerError{Found: id, Known: inc.SystemID, FoundSize: size, KnownSize: inc.SegmentSize}
	}
	return u.settings(ctx)
}

// settings reads those that matter to a receiver.
func (u *upstream) settings(ctx context.Context) error {
	text, err := u.show(ctx, "server_version_num")
	if err != nil {
		return err
	}
	if u.version, err = strconv.Atoi(text); err != nil {
		return fmt.Errorf("server_version_num %q: %w", text, err)
	}
	if u.synchronous, err = u.show(ctx, "synchronous_standby_names"); err != nil {
		return err
	}
	if text, err = u.show(ctx, "wal_sender_timeout"); err != nil {
		return err
	}
	u.statusInterval = statusInterval
	if d := parseSetting(text); d > 0 {
		u.statusInterval = min(statusInterval, d/3)
	}
	return nil
}

// parseSetting reads a duration as SHOW prints it: 1min, 500ms. 0: none.
func parseSetting(text string) time.Duration {
	units := map[string]time.Duration{"ms": time.Millisecond, "s": time.Second, "min": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "": time.Millisecond}
	digits := 0
	for digits < len(text) && text[digits] >= '0' && text[digits] <= '9' {
		digits++
	}
	n, err := strconv.Atoi(text[:digits])
	if err != nil {
		return 0
	}
	return time.Duration(n) * units[text[digits:]]
}

func (u *upstream) show(ctx context.Context, name string) (string, error) {
	row, err := u.row(ctx, "SHOW "+name, 1)
	if err != nil {
		return "", err
	}
	return row[0], nil
}

// row runs a command that answers with one row of at least n columns.
func (u *upstream) row(ctx context.Context, command string, n int) ([]string, error) {
	var row []string
	err := u.answered(ctx, command, func(ctx context.Context) (err error) {
		row, err = queryRow(ctx, u.pg, command)
		return err
	})
	if err == nil && len(row) < n {
		err = errForm
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", command, err)
	}
	return row, nil
}

// command runs one whose answer is of no interest.
func (u *upstream) command(ctx context.Context, command string) error {
	return u.answered(ctx, command, func(ctx context.Context) error {
		_, err := u.pg.Exec(ctx, command).ReadAll()
		return err
	})
}

// answered runs ask, which waits for the server's answer to a command, but not
// for longer than a server may be silent: a machine that is frozen, or a network
// that swallows what is sent, never ends a connection.
func (u *upstream) answered(ctx context.Context, command string, ask func(context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, u.giveUp)
	defer cancel()
	err := ask(bounded)
	if err != nil && bounded.Err() != nil && ctx.Err() == nil {
		return &SilentServerError{Host: u.host, For: u.giveUp, Command: command}
	}
	return err
}

var errForm = errors.New("the server's answer has another form")

// queryRow runs a command or a query that answers with one row.
func queryRow(ctx context.Context, conn *pgconn.PgConn, sql string) ([]string, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(results) == 0 || len(results[0].Rows) != 1 {
		return nil, errForm
	}
	row := make([]string, len(results[0].Rows[0]))
	for i, v := range results[0].Rows[0] {
		row[i] = string(v)
	}
	return row, nil
}

// slotSyntax is where READ_REPLICATION_SLOT is known from.
const slotSyntax = 150000

// slot is what a server says of the replication slot.
type slot struct {
	exists bool
	// start is the first position whose WAL it holds; 0: none, or the server is too old to say.
	start wal.LSN
}

// readSlot asks for the slot. Servers before 15 cannot be asked.
func (u *upstream) readSlot(ctx context.Context, name string) (s slot, err error) {
	if u.version < slotSyntax {
		return slot{}, nil
	}
	row, err := u.row(ctx, "READ_REPLICATION_SLOT "+name, 3)
	if err != nil || row[0] == "" {
		return slot{}, err
	}
	s.exists = true
	if row[1] != "" {
		s.start, err = wal.ParseLSN(row[1])
	}
	return s, err
}

// ensureSlot creates the slot, with its WAL reserved, where it is missing, and
// makes one anew that holds no WAL: it was invalidated, and streaming over it
// would not make it hold any, or was made without reserving WAL.
func (u *upstream) ensureSlot(ctx context.Context, name string, log *slog.Logger) (slot, error) {
	s, err := u.readSlot(ctx, name)
	switch {
	case err != nil:
		return s, err
	case s.exists && s.start == 0:
		return u.renewSlot(ctx, name, log)
	case s.exists:
		return s, nil
	}
	return u.createSlot(ctx, name)
}

func (u *upstream) createSlot(ctx context.Context, name string) (slot, error) {
	err := u.command(ctx, "CREATE_REPLICATION_SLOT "+name+" PHYSICAL RESERVE_WAL")
	var pg *pgconn.PgError
	if err != nil && (!errors.As(err, &pg) || pg.Code != "42710") { // duplicate_object
		return slot{}, &SlotError{Slot: name, Err: err}
	}
	return u.readSlot(ctx, name)
}

// renewSlot drops a slot that holds nothing, and creates it again.
func (u *upstream) renewSlot(ctx context.Context, name string, log *slog.Logger) (slot, error) {
	if u.version < slotSyntax {
		// It cannot be asked whether it is a physical slot at all.
		return slot{}, &SlotError{Slot: name, Err: errors.New("it holds no WAL")}
	}
	if err := u.command(ctx, "DROP_REPLICATION_SLOT "+name); err != nil {
		return slot{}, &SlotError{Slot: name, Err: err}
	}
	log.Warn("the replication slot held no WAL (it was invalidated, or made without reserving any) and is made anew", "host", u.host.String(), "slot", name)
	return u.createSlot(ctx, name)
}

// readHistory reads the history of the server's timeline, and stores it and
// those of its ancestors that the archive lacks: without them no recovery finds its way.
func (u *upstream) readHistory(ctx context.Context, r *Receiver) error {
	u.history = wal.History{Timeline: u.timeline}
	if u.timeline == 1 {
		r.setHistory(u.history)
		return nil
	}
	content, err := u.storeHistory(ctx, r, u.timeline)
	if err != nil {
		return err
	}
	if u.history, err = wal.ParseHistory(u.timeline, content); err != nil {
		return err
	}
	r.setHistory(u.history)
	for _, e := range u.history.Entries {
		if e.Timeline == 1 {
			continue
		}
		if r.histories[e.Timeline] != nil {
			continue
		}
		_, err := r.o.Archive.HistoryContent(ctx, e.Timeline)
		if !errors.Is(err, storage.ErrNotExist) {
			continue
		}
		if _, err := u.storeHistory(ctx, r, e.Timeline); err != nil {
			// The server may have removed it; the youngest names all ancestors.
			r.o.Logger.Warn("the history file of an earlier timeline cannot be had", "timeline", e.Timeline, "error", err)
		}
	}
	return nil
}

// storeHistory fetches a history file and archives it.
func (u *upstream) storeHistory(ctx context.Context, r *Receiver, tli wal.TimelineID) ([]byte, error) {
	row, err := u.row(ctx, fmt.Sprintf("TIMELINE_HISTORY %d", tli), 2)
	if err != nil {
		return nil, err
	}
	content := []byte(row[1])
	if bytes.Equal(r.histories[tli], content) {
		return content, nil // the repository may be away now
	}
	if _, err := r.o.Archive.PutHistory(ctx, tli, content); err != nil {
		return nil, fmt.Errorf("store the history file of timeline %s: %w", tli, err)
	}
	r.histories[tli] = content
	return content, nil
}

// SlotError says that the replication slot cannot be created or renewed.
type SlotError struct {
	Slot string
	Err  error
}

// Error gives the server's reason.
func (e *SlotError) Error() string { return fmt.Sprintf("replication slot %s: %v", e.Slot, e.Err) }

// Unwrap returns the cause.
func (e *SlotError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *SlotError) Hint() string {
	var pg *pgconn.PgError
	if errors.As(e.Err, &pg) {
		switch pg.Code {
		case "53400":
			return "all replication slots are taken: drop one that is not used (pg_replication_slots), or raise max_replication_slots"
		case "42501":
			return "the role needs the right to replicate: ALTER ROLE … REPLICATION"
		case "55006":
			return "another receiver uses the slot: stop it, or give this one another --slot"
		}
		return ""
	}
	return "if it was invalidated, drop it (SELECT pg_drop_replication_slot): it is made anew, and what is missing is reported"
}
