package stream

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walden-pg/walden/internal/server"
	"github.com/walden-pg/walden/wal"
)

// keepInterval is how often the slots of the other hosts are advanced.
const keepInterval = 10 * time.Second

// keepSlots keeps a slot on every host of the connection string but the one that
// is streamed from, and advances it to what is durable: physical slots do not
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
		_, durable, _ := r.journal.positions()
		for i, h := range hosts {
			if h == current || current == (server.Host{}) {
				continue
			}
			err := r.keepSlot(ctx, h, &conns[i], durable)
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
func (r *Receiver) keepSlot(ctx context.Context, h server.Host, conn **pgconn.PgConn, durable wal.LSN) error {
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
 coalesce(max(restart_lsn)::text, '') FROM pg_catalog.pg_replication_slots WHERE slot_name = '%s'`, r.o.Slot))
	if err != nil {
		return err
	}
	if row[1] == "t" {
		if _, err := queryRow(ctx, *conn, fmt.Sprintf("SELECT pg_catalog.pg_drop_replication_slot('%s')", r.o.Slot)); err != nil {
			return err
		}
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
	if err != nil || held >= durable {
		return err
	}
	// Never beyond what this host has: on a standby the server sees to that.
	_, err = queryRow(ctx, *conn, fmt.Sprintf(`SELECT end_lsn FROM pg_catalog.pg_replication_slot_advance('%s', least('%s'::pg_lsn,
 CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_flush_lsn() END))`, r.o.Slot, durable))
	return err
}
