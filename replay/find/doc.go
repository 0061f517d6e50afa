// Package find tells what happened when: which transactions dropped, truncated or
// changed what, and the other moments a person may want to return to, each with
// the exact target to restore to just before it and just after it.
//
// It reads nothing but the indexes of archived WAL segments (wal/index) and the
// snapshots of names (wal/names). What they do not say it does not guess: a
// relation that is in no snapshot is told by its numbers.
//
// A transaction is told where it commits, with what all segments say it did up to
// there. Files of databases come and go before that, with records of
// their own; so the moment before DROP DATABASE is that before its first effect, not
// that before its commit.
package find
