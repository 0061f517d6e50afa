// Package verify proves, or disproves, that what a repository holds of a cluster is
// what its promises need.
//
// # Two depths
//
// The quick form lists every object once, in the order of keys, and reads the footer of each: it
// must be there, end in its footer, have the size that its footer says, and belong to
// its key and its repository. Objects that other objects depend on for what they say
// (manifests, claims, history files, identities), and all others of at most 64 KiB but those that
// hold WAL or files, are read whole. The WAL of every timeline is joined segment by
// segment, from roll-ups where they hold for the objects that are there and from the segments' own indexes elsewhere;
// manifests are held against the packs and tables they name.
//
// The deep form does that, and then reads every object from its first byte to its
// last, those first that were read the longest time ago. Of a segment it
// derives the index again and compares. Of a backup it computes each file's checksum from those of
// the packs' pages, and holds the table of files against the server's own manifest.
//
// # What a listing cannot tell
//
// Most of what is deleted is missed by something else: a segment by its neighbours, a
// pack by its manifest. What nothing refers to is missed by memory alone. So
// each run leaves a record in the repository of what was there and when it was
// last read whole; the next one compares. The same records let a run
// that was cut off go on (record.go).
//
// # Consequences
//
// Every finding is taken back in thought: the windows of moments that could be
// restored if nothing were wrong, less those that can be without the object (moments.go).
package verify
