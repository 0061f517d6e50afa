// Package integration drives the built walden binary against real PostgreSQL
// servers of several majors and real stores, as a DBA would: no test here
// calls a library of ours. Judges are tools that are not ours: pg_verifybackup,
// pg_amcheck, pg_waldump, row counts.
//
// `make test` builds the binary and names it in WALDEN_BINARY; without that
// variable the tests build one themselves.
package integration
