// Package stream receives WAL over PostgreSQL's replication protocol.
//
// Positions reported to the server are promises: everything below the flush
// position is durable wherever it matters, and the server may remove it. This
// package reports only what its caller's Put has returned from.
package stream
