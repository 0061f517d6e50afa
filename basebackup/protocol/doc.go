// Package protocol takes base backups with the replication command
// BASE_BACKUP (PostgreSQL 14 and later) and asks the server what else a backup
// needs. It implements basebackup.Source and basebackup.Server.
//
// The server sends one tar archive for each tablespace, the data directory
// last, and then its backup manifest. Up to PostgreSQL 14 each of them is a
// COPY of its own; since 15 they share one, in which every message begins with
// a byte that says what it is (backup/basebackup_copy.c). Either way the tar
// streams are taken apart as they arrive: no byte is kept but those of the
// message being read.
package protocol
