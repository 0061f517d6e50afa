// Package scratch is where throw-away servers live: a directory that one process
// works in, and what keeps a server there to itself.
//
// The directory has a lock, which the process holds. What a process that was killed
// has left is known by a lock that nobody holds: whoever comes next stops the server in it,
// and removes it. Nothing that a user has restored is ever in such a directory.
package scratch
