// Package wal holds the values PostgreSQL's write-ahead log is spoken of in:
// log sequence numbers, timelines, segments, the names of the files in pg_wal
// and in an archive, and timeline history files.
//
// Every parser is strict: it accepts what PostgreSQL writes and nothing that
// merely resembles it, and what it accepts formats back to the same name. The
// package uses the standard library alone and does no I/O.
package wal
