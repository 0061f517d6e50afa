package wal

import "time"

// pgEpoch is 2000-01-01 00:00:00 UTC in Unix seconds: where TimestampTz counts
// from (POSTGRES_EPOCH_JDATE in datatype/timestamp.h).
const pgEpoch = 946684800

// FromPGMicros turns a TimestampTz, microseconds since 2000-01-01 UTC as in
// commit and abort records, into a time in UTC. It is exact for every value.
func FromPGMicros(us int64) time.Time {
	sec, rem := us/1e6, us%1e6
	if rem < 0 {
		sec, rem = sec-1, rem+1e6
	}
	return time.Unix(sec+pgEpoch, rem*1000).UTC()
}

// ToPGMicros turns a time into microseconds since 2000-01-01 UTC, rounding
// down. Times more than 292,000 years away from then overflow.
func ToPGMicros(t time.Time) int64 {
	return (t.Unix()-pgEpoch)*1e6 + int64(t.Nanosecond())/1000
}

// FromUnixSeconds turns a pg_time_t, seconds since 1970 as in checkpoint
// records and pg_control, into a time in UTC.
func FromUnixSeconds(s int64) time.Time { return time.Unix(s, 0).UTC() }
