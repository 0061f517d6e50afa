// Package archive keeps a cluster's WAL in a repository: segments, timeline
// history files, partial segments and backup history files.
//
// A cluster has one or more incarnations (see Incarnation); an Archive is the
// WAL of one of them. Everything is written once. What is there already with
// the same content counts as stored, and other content under the same name is
// a *ConflictError that changes nothing.
//
// The keys, below the incarnation's prefix (<cluster>/<number>-<system identifier>/):
//
//	identity.json                           the incarnation itself
//	wal/<timeline>.history                  timeline history files
//	wal/<timeline>/<log>/<segment>          complete segments
//	wal/<timeline>/<log>/<segment>.partial  the unfinished end of a timeline that was left
//	wal/<timeline>/<log>/<segment>.<offset>.backup
//
// timeline and log are eight upper-case hexadecimal digits: the first and the
// middle part of the segment's name, so that a range of WAL can be listed by
// (timeline, log) in parallel.
package archive
