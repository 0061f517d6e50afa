// Package recovery runs PostgreSQL on a restored data directory until recovery
// has come to its end, and tells where and why it stopped.
//
// # The algorithm
//
// 1. PG_VERSION in the directory names the major version. The server's binaries
// are looked for where that major is usually installed, and each candidate is
// asked for its version: a server of another major would refuse the directory,
// or worse.
//
// 2. The server is started as a process of its own session, as the owner of the
// directory (PostgreSQL refuses to run as root), with settings on its command
// line that make it observable and harmless: everything it says goes to one log
// file beside the directory, in English, with a fixed prefix; it listens on a
// socket in a directory of its own and on no network address; it writes no
// other server's pid file. Where the configuration lives outside the data
// directory it is taken from <directory>.config, and where there is none at all
// a minimal one is written whose hot-standby settings come from pg_control.
//
// 3. The log is read while it is written. It is the only account that says why
// recovery stopped: each sentence that matters is recognised by its text in
// PostgreSQL 14 to 19 (xlogrecovery.c, xlogarchive.c, postmaster.c). The replay
// position comes from the log too, and from SQL once the server accepts
// connections.
//
// 4. The run is over when the server has paused at the target, has finished
// recovery, serves as a standby, has shut down at the target, or has died. A
// server that has reached its target is left running, unless the caller wants
// it stopped: it lives in its own session and survives the end of this process.
// A server that pauses because its settings are too small for hot standby has
// not reached anything: it is stopped, and the setting is named.
//
// 5. Where it stopped is compared with what the plan has proved: the record that the
// server names, the position up to which it replayed, the timeline and the last
// transaction. A difference of one record is a failure.
//
// When the context is cancelled the server is stopped (fast shutdown, then
// immediate). Recovery can be continued by running the same again.
package recovery
