package stream

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walden-pg/walden/internal/server"
)

// Intervals of looking at the server.
const (
	watchInterval = time.Second
	lookTimeout   = 5 * time.Second
	// warnInterval is the time between two warnings of the same kind.
	warnInterval = 10 * time.Minute
	// stopGrace is how long a server that shuts down waits for what is not
	// durable yet: it is here by then, and is shipped without the server.
	stopGrace = time.Second
)

// watcher looks at the server that is streamed from over an ordinary
// connection: whether commits wait for us, how much WAL the slot holds back, and
// whether the server is shutting down.
type watcher struct {
	r    *Receiver
	up   *upstream
	feed *feed
	pid  uint32
	conn *pgconn.PgConn
	// answered is set once the server has said anything else than that it is
	// starting or stopping, even if that was a refusal.
	answered bool
	warned   time.Time
}

// watch runs until ctx is done. Without an ordinary connection it does what can
// be done without.
func (r *Receiver) watch(ctx context.Context, up *upstream, f *feed) error {
	w := &watcher{r: r, up: up, feed: f, pid: f.hijacked.PID}
	defer w.disconnect()
	// Until the server has said more, whoever names standbys waits for one of them.
	r.state.change(func(st *Status) { st.Waiting, st.SlotLag, st.SlotRoom = up.synchronous != "", -1, -1 })
	told := false
	for {
		err := w.look(ctx)
		w.answered = w.answered || err == nil || refused(err)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			told = false
		case w.answered && stopping(err):
			return w.letGo(ctx)
		case w.stuck(err):
			f.close()
			return errStuck
		case !told:
			told = true
			r.o.Logger.Warn("the server cannot be looked at beside the stream: how far the slot lags, and whether commits wait for it, is not known", "error", err)
		}
		if !w.pause(ctx) {
			return nil
		}
	}
}

// pause waits until it is time to look again. A connection that the server ends
// meanwhile ends the pause.
func (w *watcher) pause(ctx context.Context) bool {
	wait, cancel := context.WithTimeout(ctx, watchInterval)
	defer cancel()
	if w.conn == nil {
		<-wait.Done()
		return ctx.Err() == nil
	}
	// Nobody sends notifications: this waits, and notices the end of the connection.
	if err := w.conn.WaitForNotification(wait); err != nil && wait.Err() == nil {
		w.disconnect()
	}
	return ctx.Err() == nil
}

func (w *watcher) disconnect() {
	if w.conn != nil {
		closeSoon(w.conn)
		w.conn = nil
	}
}

// look asks the server once.
func (w *watcher) look(ctx context.Context) error {
	// The end of the session does not cancel a query: the server would log it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTimeout)
	defer cancel()
	if w.conn == nil || w.conn.IsClosed() {
		conn, err := server.ConnectHost(ctx, w.r.o.Conninfo, w.up.host, server.SQL, func(c *pgconn.Config) {
			c.RuntimeParams["idle_session_timeout"] = "0"
		})
		if err != nil {
			return err
		}
		w.conn = conn
	}
	row, err := queryRow(ctx, w.conn, watchQuery(w.pid, w.r.o.Slot))
	if err != nil {
		return err
	}
	lag, err1 := strconv.ParseInt(row[1], 10, 64)
	room, err2 := strconv.ParseInt(row[2], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("how far the slot lags: %w", err)
	}
	w.r.state.change(func(st *Status) { st.Waiting, st.SlotLag, st.SlotRoom = waits(row[0]), lag, room })
	w.warn(row[3], lag, room)
	return nil
}

// watchQuery asks for our synchronous state, how much WAL the slot holds back,
// how much more it may (-1: as much as there is), and the slot's state. Without
// pg_read_all_stats a role does not see the state, not even that of its own
// connection (pg_stat_get_wal_senders in replication/walsender.c): then whoever
// names standbys may wait for us.
func watchQuery(pid uint32, slot string) string {
	return fmt.Sprintf(`SELECT coalesce((SELECT coalesce(sync_state, CASE WHEN pg_catalog.current_setting('synchronous_standby_names') <> '' THEN 'potential' END)
  FROM pg_catalog.pg_stat_replication WHERE pid = %d), ''),
 coalesce(pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_receive_lsn()
  ELSE pg_catalog.pg_current_wal_lsn() END, s.restart_lsn)::bigint, -1), coalesce(s.safe_wal_size, -1), coalesce(s.wal_status, '')
 FROM (SELECT 1) one LEFT JOIN pg_catalog.pg_replication_slots s ON s.slot_name = '%s'`, pid, slot)
}

// waits reports whether commits can wait for a standby of this state.
func waits(syncState string) bool {
	return syncState == "sync" || syncState == "quorum" || syncState == "potential"
}

// slotNear is the share of what a slot may hold back at which it is warned of.
const slotNear = 0.8

// warn tells of a slot that holds back almost as much WAL as it may.
func (w *watcher) warn(status string, lag, room int64) {
	free, known := w.r.freeDisk()
	near := room >= 0 && lag >= 0 && float64(lag) >= slotNear*float64(lag+room)
	full := known && lag > 0 && float64(lag) >= slotNear*float64(lag+free)
	if !near && !full && status != "unreserved" || time.Since(w.warned) < warnInterval {
		return
	}
	w.warned = time.Now()
	args := []any{"slot", w.r.o.Slot, "held_back_bytes", lag, "wal_status", status}
	if room >= 0 {
		args = append(args, "max_slot_wal_keep_size_leaves_bytes", room)
	}
	if known {
		args = append(args, "free_disk_bytes", free)
	}
	w.r.o.Logger.Warn("the slot holds back almost as much WAL on the server as it may: find out why the repository does not keep up", args...)
}

// stopping reports whether a server that could be connected to now refuses it
// because it shuts down.
func stopping(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "57P03"
}

// refused reports whether the server answered, and did so as one that is neither
// starting nor stopping: a server that shuts down says that to whoever connects,
// before it looks at who that is (ProcessStartupPacket in tcop/backend_startup.c,
// up to PostgreSQL 17 in postmaster/postmaster.c).
func refused(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && !stopping(err)
}

// stuck reports whether the server may be shutting down, for all that is known, while
// nothing is read from it: then its question whether all is flushed is not seen, and
// it would wait for as long as the repository is away.
func (w *watcher) stuck(err error) bool {
	return !refused(err) && w.feed.stuck() > w.r.patience.kept
}

// letGo gives a server that is shutting down what it waits for, or ends the
// connection when that takes long: it must not be kept from stopping.
func (w *watcher) letGo(ctx context.Context) error {
	w.r.o.Logger.Info("the server is shutting down", "host", w.up.host.String())
	w.r.journal.need()
	timer := time.NewTimer(stopGrace)
	defer timer.Stop()
	for {
		changed := w.r.journal.await()
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-timer.C:
			if n, _ := w.r.journal.pending(); n == 0 {
				timer.Reset(stopGrace) // it still sends
				continue
			}
			reason := errLetGo
			if !w.feed.taking.Load() && w.r.state.hasAll() {
				reason = errServerStops
			}
			w.feed.close()
			return reason
		}
	}
}

// freeDisk is what is free where the server keeps its WAL, if it runs here.
func (r *Receiver) freeDisk() (free int64, known bool) {
	if r.o.DataDirectory == "" {
		return 0, false
	}
	free, err := freeSpace(filepath.Join(r.o.DataDirectory, "pg_wal"))
	return free, err == nil
}
