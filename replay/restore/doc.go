// Package restore executes a plan: it turns a base backup into a data directory
// that PostgreSQL can recover from.
//
// # The algorithm
//
// 1. Checks, before anything is written. The target directory must be absent or
// empty, and so must be the place of every tablespace and of the configuration
// files that lie outside the data directory; none may lie inside another; their
// parents must exist; the disks must have room. A directory that holds anything
// is refused with what it holds, most of all one with a running server.
//
// 2. The mark. The first thing written into each of these directories is a small
// file, .walden-restore, that says which restore is at work there; the last
// thing done is to remove it. A directory with the mark is the remains of an
// interrupted restore: the same command removes its contents and begins again.
// Unless a server was started on it meanwhile, which is refused.
//
// 3. Files, shard by shard of the backup's table, so that memory does not grow
// with the number of files. The extents of a shard's files are sorted by pack
// and offset and joined into runs: neighbours that one ranged read of a pack can
// serve, of some 32 MiB, cut at frame boundaries so that no frame is read twice.
// Runs are worked off in parallel; each is decompressed in order and written to
// where its bytes belong. storage/frame verifies every frame and page. The
// CRC-32C of a file's pieces are combined and compared with the backup's; a file
// that agrees gets its mode and time and is fsynced, together with others, before
// it is closed. The number of open files is bounded; one that is closed before it
// is complete is fsynced first too, so that no write error is lost.
//
// Where only some databases are wanted, the files of the others are made as long as they
// were and not filled: see replay/databases. They are in no run, so nothing is read for them.
//
// 4. global/pg_control is written like all others, but under another name: until
// it gets its own, no server can start here.
//
// 5. What base backups leave out is made: empty standard directories, and the
// links in pg_tblspc, to where the tablespaces are now.
//
// 6. Settings. A block is appended to postgresql.auto.conf: restore_command, the
// plan's target, and what keeps the restored cluster from hurting the one it
// came from: no archiving, no synchronous standbys, no replication. Both signal
// files that the backup may hold are removed and the right one is made.
// pg_verifybackup leaves these files out; everything else is as it was.
// Configuration files that were outside the data directory go to a directory
// beside it, since inside they would be strangers to pg_verifybackup.
//
// 7. All directories are fsynced, pg_control gets its name, its directory is
// fsynced, the marks are removed.
//
// WAL is not copied: PostgreSQL fetches it with restore_command.
package restore
