// Package waldump holds wal/record to PostgreSQL's own reader: it runs the
// pg_waldump of a cluster's major, takes its lines apart, and compares every record.
package waldump
