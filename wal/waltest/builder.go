// Package waltest writes WAL for tests: byte for byte what a PostgreSQL server
// of a chosen major would write, without a server.
package waltest
