// Package names keeps what the numbers in the WAL were called. WAL speaks of
// databases, tablespaces and relations by OID and file number alone; once they
// are dropped, no server can tell their names any more.
//
// Take reads the catalogues of a running server and stores a snapshot of them,
// if anything has changed since the last one: databases, tablespaces, and of
// every database that can be connected to its schemas and relations. A Reader
// lists and reads the snapshots, a Resolver answers "what was relation 16390 of
// database 5 at this LSN".
//
// # How snapshots are stored
//
// The rows of pg_namespace and pg_class of one database are cut into chunks by
// their OIDs, 4,096 OIDs each. The server computes a fingerprint of every chunk;
// only chunks whose fingerprint no earlier snapshot has are transferred and
// stored, the others are referred to. So memory does not grow with the number
// of relations, a snapshot after a CREATE TABLE takes a few kilobytes whatever the
// size of the catalogue, and databases that are alike share their chunks. The
// bytes are specified in docs/format-names.md.
package names
