// Package index derives from one WAL segment, in one pass, what an archive
// must know about it without reading it again: which records start in it, which
// transactions end in it and when, the moments a person may want to return to,
// and the two ends that let any two neighbours be joined.
//
// An index is derived data: it says nothing the segment does not. It is
// encoded in sections of their own (docs/format-wal-index.md), so that a reader
// can take the small summary alone.
package index
