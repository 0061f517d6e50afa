// Package pgtest starts real PostgreSQL servers for tests.
//
// A test asks for a cluster of one of the supported majors and gets a running
// server that is stopped, and whose directory is removed, when the test ends:
//
//	for _, major := range pgtest.Majors() {
//		t.Run(fmt.Sprint(major), func(t *testing.T) {
//			c := pgtest.New(t, pgtest.Options{Major: major, SegmentSizeMB: 1})
//			c.Exec("CREATE TABLE t (i int)")
//		})
//	}
//
// PostgreSQL refuses to run as root, so under root everything that touches a
// data directory runs as the user postgres: servers, client programs and
// whatever a test starts with [Command]. Directories made by [TempDir] belong
// to that user.
//
// Where a major is not installed, tests that ask for it are skipped with the
// reason; in CI (CI=true in the environment) they fail, so that a missing
// server is never mistaken for a passing suite. scripts/install-postgres.sh
// installs the majors. The environment variables that are looked at:
//
//	WALDEN_TEST_MAJORS   majors to test, for example "17 18" (ignored in CI)
//	WALDEN_TOOLS         where scripts/install-postgres.sh put its servers
//	WALDEN_PG17_BINDIR   the directory of one major's programs, here of 17
//	WALDEN_TEST_TMP      where temporary directories go; /tmp unless set
//	WALDEN_TEST_KEEP     not empty: temporary directories are not removed
//
// The package is for tests alone; nothing that ships imports it.
package pgtest
