// Package drill proves that a cluster comes back: it restores to a moment into
// scratch, lets PostgreSQL replay the WAL there, asks the server and its tools whether what came
// back is what was promised, removes everything, and leaves a record in the repository.
//
// # The algorithm
//
// 1. What a drill that was killed has left is removed (package scratch). The source server is asked
// how far it is, if there is a connection to it; then the archive is listed: what of the
// server's WAL is not in it would be lost.
//
// 2. The moment is one that was named, or is picked: see Pick. The plan is made as for a restore.
//
// 3. The backup is restored into scratch, and recovery runs to the end of the plan: one
// record more or less is a failure. The server is then open for writing, in a timeline of its own,
// archives nothing, listens on no network address, and loads no libraries (scratch.Settings).
//
// 4. Before anything is written there the server is asked for the last commit that the plan keeps and
// the first that it loses. Then come the assertions, each in a read-only session. Then pg_amcheck
// looks at every table and index of every database; amcheck itself is installed in the copy. The
// server is shut down, and pg_checksums reads every page.
//
// 5. The times are held against the objectives. Whatever was found, the other checks are made
// too, as far as they can be. Scratch is removed, and the record is written last.
//
// Only what lies in scratch is ever started.
package drill
