// Package record reads PostgreSQL's WAL: pages, records, and what the records
// say that an archive must know. It knows the formats of PostgreSQL 14 to 19
// (19 as of its beta) on little-endian machines with 8 KiB WAL pages.
//
// A Reader walks a run of WAL bytes and checks everything PostgreSQL's own
// reader would (access/transam/xlogreader.c): page headers, the chain of
// xl_prev links, continuation of records over pages, and every record's CRC. It
// goes further where an archive must: the remainder of a switched segment has
// to be zero, and where WAL ends too early it says why. Its memory does not
// depend on what the bytes claim.
package record
