package stream

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walden-pg/walden/internal/server"
	"github.com/walden-pg/walden/wal"
)

// keepInterval is how often the slots of the other hosts are advanced.
const keepInterval = 10 * time.Second

// keepSlots keeps a slot on every host of the connection string but the one that
// is streamed from, and advances it to what is durable of that host's WAL: physical slots do not
// fail over by themselves, and whichever host is promoted must still have the
// WAL that the repository lacks.
func (r *Receiver) keepSlots(ctx context.Context) error {
	hosts, err := server.Hosts(r.o.Conninfo)
	if err != nil || len(hosts) < 2 {
		return err
	}
	conns := make([]*pgconn.PgConn, len(hosts))
	trouble := make([]string, len(hosts))
	defer func() {
		for _, c := range conns {
			if c != nil {
				closeSoon(c)
			}
		}
	}()
	for {
		current := r.currentHost()
		wait := keepInterval
		if current == (server.Host{}) {
			wait = time.Second // nothing is streamed yet
		}
		for i, h := range hosts {
			if h == current || current == (server.Host{}) {
				continue
			}
			err := r.keepSlot(ctx, h, &conns[i])
			if ctx.Err() != nil {
				return nil
			}
			r.tellSlot(h, err, &trouble[i])
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// timelineQuery asks for the timeline that a host writes, or replays. A standby's
// control file may still tell the one before: then less is let go, not more.
const timelineQuery = `CASE WHEN pg_catalog.pg_is_in_recovery() THEN
 greatest((SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()), (SELECT min_recovery_end_timeline FROM pg_catalog.pg_control_recovery()))
 ELSE ('x' || substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::int END`

// safeOn is up to where the WAL of a host's timeline is in the repository, as far as it
// is the WAL that leads to what is streamed; 0: nothing is. The same position on a
// timeline that left ours earlier is other WAL, which nobody has archived.
func (r *Receiver) safeOn(theirs wal.TimelineID) (wal.LSN, error) {
	ours, durable := r.journal.durable()
	if theirs == ours || durable == 0 {
		return durable, nil
	}
	if h := r.history.Load(); h != nil && h.Timeline == ours {
		for _, span := range h.Path() {
			if span.Timeline == theirs {
				return min(durable, span.End), nil
			}
		}
	}
	return 0, fmt.Errorf("the host is on timeline %s, which does not lead to timeline %s that is streamed: its WAL is not archived, and the slot is not advanced", theirs, ours)
}

// tellSlot logs what keeps a slot from being kept, once.
func (r *Receiver) tellSlot(h server.Host, err error, trouble *string) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text == *trouble {
		return
	}
	*trouble = text
	if err != nil {
		r.o.Logger.Warn("the slot on another host cannot be kept: if it is promoted, WAL can be missing there", "host", h.String(), "slot", r.o.Slot, "error", err)
		return
	}
	r.o.Logger.Info("the slot on another host is kept again", "host", h.String(), "slot", r.o.Slot)
}

// keepSlot creates and advances the slot on one host.
func (r *Receiver) keepSlot(ctx context.Context, h server.Host, conn **pgconn.PgConn) error {
	ctx, cancel := context.WithTimeout(ctx, keepInterval)
	defer cancel()
	if *conn == nil || (*conn).IsClosed() {
		c, err := server.ConnectHost(ctx, r.o.Conninfo, h, server.SQL, func(c *pgconn.Config) {
			c.RuntimeParams["idle_session_timeout"] = "0"
		})
		if err != nil {
			return err
		}
		*conn = c
	}
	row, err := queryRow(ctx, *conn, fmt.Sprintf(`SELECT count(*), coalesce(bool_or(wal_status = 'lost'), false), coalesce(bool_or(active), false),
 coalesce(max(restart_lsn)::text, ''), %s FROM pg_catalog.pg_replication_slots WHERE slot_name = '%s'`, timelineQuery, r.o.Slot))
	if err != nil {
		return err
	}
	if row[1] == "t" {
		if _, err := queryRow(ctx, *conn, fmt.Sprintf("SELECT pg_catalog.pg_drop_replication_slot('%s')", r.o.Slot)); err != nil {
			return err
		}
		r.o.Logger.Warn("the slot on another host was lost, because that host had to remove WAL that it held, and is made anew", "host", h.String(), "slot", r.o.Slot)
		row[0] = "0"
	}
	if row[0] == "0" {
		_, err := queryRow(ctx, *conn, fmt.Sprintf("SELECT slot_name FROM pg_catalog.pg_create_physical_replication_slot('%s', true)", r.o.Slot))
		return err
	}
	if row[2] == "t" || row[3] == "" {
		return nil // somebody streams over it
	}
	held, err := wal.ParseLSN(row[3])
	if err != nil {
		return err
	}
	theirs, err := strconv.ParseUint(row[4], 10, 32)
	if err != nil {
		return fmt.Errorf("timeline %q: %w", row[4], err)
	}
	durable, err := r.safeOn(wal.TimelineID(theirs))
	if err != nil || held >= durable {
		return err
	}
	// Never beyond what this host has: on a standby the server sees to that.
	_, err = queryRow(ctx, *conn, fmt.Sprintf(`SELECT end_lsn FROM pg_catalog.pg_replication_slot_advance('%s', least('%s'::pg_lsn,
 CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_flush_lsn() END))`, r.o.Slot, durable))
	return err
}
