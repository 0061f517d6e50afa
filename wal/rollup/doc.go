// Package rollup keeps the indexes of a whole log of WAL (4 GiB, 256 segments of
// 16 MiB) in one object, so that a plan over very many segments takes few requests.
//
// # What a roll-up is worth
//
// A roll-up is derived data. It says nothing about what exists: a reader lists the
// segments themselves, and asks a roll-up only about those that are there. Of each
// segment it holds a fingerprint of the stored object as a listing shows it
// (Fingerprint): a segment that was deleted and archived anew has another one, the
// roll-up's entry of it is stale, and the segment's own index is read instead. So is
// it where there is no roll-up, or one that is damaged. Nothing depends on roll-ups but speed; they can
// be deleted at any time, and Update makes them again.
//
// # What it holds
//
// Of each segment what index.Compact keeps: positions, times, transaction ids,
// counts, landmarks; not the transactions. And the proof that it continues the
// segment before it, in one of two forms. Where nothing but an ordinary record crosses, followed from
// its first byte to its last and verified, a flag and where it lies is enough
// (index.Joined.Plain). Everywhere else the bytes of the edges are kept, and the reader
// joins the segments itself, as it would have from their own indexes: where a
// commit or a landmark crosses, at both ends of the log, and
// around holes. What does not fit is never written down: the reader finds that out where it matters.
//
// # Names
//
// The key is index/<timeline>/<log>/<generation>, 8 hexadecimal digits each. Objects
// are never changed, so a log that has grown gets the next generation, and the older ones are
// deleted after it is there, by whoever may; the highest generation counts. All roll-ups of a thousand logs
// are listed by one request. Two writers of one generation: the second finds that it
// exists, and looks again.
//
// # What a plan costs
//
// Existence is listed in stretches of about a thousand keys, in parallel, and only
// for the stretch of WAL that a plan needs: from the backup to the target. One
// object tells of a log. For a target in a log, the transactions are then read from
// the one or two segments that decide. docs/guide.md states the numbers, and
// replay/catalog's tests hold them.
package rollup
