// Package basebackup takes base backups into a repository and reads back what
// was taken.
//
// A Source produces the files of a cluster's data directory; Take turns them
// into packs (objects of many files' bytes), shards (tables that say which
// extents of which packs make up each file) and, last of all, a manifest. A
// backup exists when its manifest exists. docs/format-backup.md specifies what
// is stored.
//
// basebackup/protocol is the Source that speaks BASE_BACKUP over a replication
// connection.
package basebackup
