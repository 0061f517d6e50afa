package server

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Slot is a row of pg_replication_slots.
type Slot struct {
	// Physical is false for a logical slot.
	Physical, Active bool
	// Status is wal_status: reserved, extended, unreserved, lost, or empty.
	Status string
	// Lag is how much WAL it holds back, Room how much more it may (safe_wal_size),
	// in bytes; -1: none, or without a limit.
	Lag, Room int64
}

// Streaming is what a server says of receivers of its WAL.
type Streaming struct {
	// Slot is the one that was asked for; nil: there is none.
	Slot *Slot
	// Senders and Slots are in use, of MaxSenders and MaxSlots.
	Senders, MaxSenders int
	Slots, MaxSlots     int
	// KeepSize is max_slot_wal_keep_size in bytes; -1: no limit.
	KeepSize int64
	// Synchronous is synchronous_standby_names.
	Synchronous string
	// RemoteApply tells whose commits wait until a standby has applied them:
	// the server's by default, or those of a role or in a database.
	RemoteApply []string
	InRecovery  bool
}

// The setting of this session says nothing of the others where role or database set it.
const streamingQuery = `SELECT (SELECT count(*) FROM pg_catalog.pg_stat_replication), pg_catalog.current_setting('max_wal_senders'),
 (SELECT count(*) FROM pg_catalog.pg_replication_slots), pg_catalog.current_setting('max_replication_slots'),
 (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'max_slot_wal_keep_size'),
 pg_catalog.current_setting('synchronous_standby_names'), pg_catalog.pg_is_in_recovery(),
 (SELECT setting = 'remote_apply' AND source NOT IN ('database', 'user', 'database user', 'client', 'session')
  FROM pg_catalog.pg_settings WHERE name = 'synchronous_commit')`

const remoteApplyQuery = `SELECT coalesce(r.rolname::text, ''), coalesce(d.datname::text, '') FROM pg_catalog.pg_db_role_setting s
 LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
 WHERE 'synchronous_commit=remote_apply' = ANY (s.setconfig) ORDER BY 1, 2`

const slotQuery = `SELECT slot_type = 'physical', active, coalesce(wal_status, ''), coalesce(pg_catalog.pg_wal_lsn_diff(
 CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_receive_lsn() ELSE pg_catalog.pg_current_wal_lsn() END,
 restart_lsn)::bigint, -1), coalesce(safe_wal_size, -1) FROM pg_catalog.pg_replication_slots WHERE slot_name = '%s'`

// DescribeStreaming asks a server, over an ordinary connection, for what a
// receiver that uses the slot depends on. The name must be one that PostgreSQL takes.
func DescribeStreaming(ctx context.Context, conn *pgconn.PgConn, slot string) (*Streaming, error) {
	row, err := one(ctx, conn, streamingQuery)
	if err != nil {
		return nil, err
	}
	var n [5]int
	for i := range n {
		if n[i], err = strconv.Atoi(row[i]); err != nil {
			return nil, fmt.Errorf("settings for streaming: %w", err)
		}
	}
	s := &Streaming{Senders: n[0], MaxSenders: n[1], Slots: n[2], MaxSlots: n[3], KeepSize: int64(n[4]), Synchronous: row[5], InRecovery: row[6] == "t"}
	if s.KeepSize > 0 {
		s.KeepSize <<= 20 // its unit is MB
	}
	if row[7] == "t" {
		s.RemoteApply = append(s.RemoteApply, "all by default")
	}
	rows, err := query(ctx, conn, remoteApplyQuery)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		s.RemoteApply = append(s.RemoteApply, whose(r[0], r[1]))
	}
	if rows, err = query(ctx, conn, fmt.Sprintf(slotQuery, slot)); err != nil || len(rows) == 0 {
		return s, err
	}
	r := rows[0]
	s.Slot = &Slot{Physical: r[0] == "t", Active: r[1] == "t", Status: r[2]}
	if s.Slot.Lag, err = strconv.ParseInt(r[3], 10, 64); err == nil {
		s.Slot.Room, err = strconv.ParseInt(r[4], 10, 64)
	}
	if err != nil {
		return nil, fmt.Errorf("replication slot %s: %w", slot, err)
	}
	return s, nil
}

func whose(role, database string) string {
	switch {
	case role == "":
		return "in database " + database
	case database == "":
		return "of role " + role
	}
	return "of role " + role + " in database " + database
}

// standbyName is one word of synchronous_standby_names.
var standbyName = regexp.MustCompile(`"(?:[^"]|"")*"|[^\s",()]+`)

// NamesStandby reports whether synchronous_standby_names names a standby of that
// application_name, by itself or by *. It follows replication/syncrep_gram.y:
// names compare without regard to case.
func NamesStandby(setting, application string) (named, byStar bool) {
	list := setting
	if i := unquotedParenthesis(setting); i >= 0 {
		list = setting[i:] // before it: FIRST 2, ANY 1, 2
	}
	for _, w := range standbyName.FindAllString(list, -1) {
		if w == "*" {
			byStar = true
			continue
		}
		if strings.HasPrefix(w, `"`) {
			w = strings.ReplaceAll(w[1:len(w)-1], `""`, `"`)
		}
		named = named || strings.EqualFold(w, application)
	}
	return named || byStar, byStar && !named
}

func unquotedParenthesis(s string) int {
	quoted := false
	for i, c := range []byte(s) {
		switch {
		case c == '"':
			quoted = !quoted
		case c == '(' && !quoted:
			return i
		}
	}
	return -1
}

// ApplicationName is the name that a connection string's connections go by.
func ApplicationName(conninfo string) (string, error) {
	cfg, err := Parse(conninfo)
	if err != nil {
		return "", err
	}
	if n := cfg.RuntimeParams["application_name"]; n != "" {
		return n, nil
	}
	return defaultApplication, nil
}
