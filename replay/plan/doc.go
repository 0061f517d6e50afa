// Package plan proves, before a byte is restored, that a target can be reached:
// which backup to start from, that the WAL from its redo point through the
// target is there without a hole along the timelines' way, that the target
// exists, and where PostgreSQL will stop.
//
// It is pure: Need and Make look at a catalog.Snapshot and do no I/O. The rules
// are PostgreSQL's own: recoveryStopsBefore and recoveryStopsAfter in
// access/transam/xlogrecovery.c (14: xlog.c) for where recovery stops,
// CheckRecoveryConsistency for when it may, readTimeLineHistory and
// XLogFileReadAnyTLI for what it reads. What PostgreSQL would answer with
// "recovery ended before configured recovery target was reached", or would
// silently get wrong, is refused here with what can be reached instead.
package plan
