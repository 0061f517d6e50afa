package catalog

import (
	"slices"
	"strings"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
)

// Details is what a Snapshot has learned of segments and backups beyond their
// names: filled by Reader.Fill, read by plans.
type Details struct {
	// Indexes are what the segments' indexes say. Unless the segment is in
	// Transactions, the list of its transactions has been left out, to
	// bound memory; times, counts, landmarks and edges (without their bytes) are there.
	Indexes map[wal.Segment]*index.Index
	// Transactions marks the segments whose list of transactions is kept.
	Transactions map[wal.Segment]bool
	// Links are the results of joining neighbours.
	Links map[Link]LinkState
	// Unreadable are segments that are archived, but whose index could not
	// be read, with what is wrong. Plans treat them as missing.
	Unreadable map[wal.Segment]string
	// Scans are what came of looking through much WAL.
	Scans map[ScanKey]Places
	// Bases are backups whose packs and tables were looked for, with what is
	// wrong: "" if all of them are there.
	Bases map[string]string
	// Records are records that no index lists, and that were looked for in the WAL.
	Records map[RecordQuery]RecordSpan
	// Prepared are the transactions that are left prepared at places where recovery stops.
	Prepared map[PreparedQuery]PreparedState
}

// Link is a step from one segment to the one that follows it on a path, perhaps
// on another timeline.
type Link struct{ From, To wal.Segment }

// LinkState is what joining the two segments of a Link found.
type LinkState struct {
	// Broken says why the second does not continue the first; "": it does.
	Broken string
	// Joined describes the record that crosses; nil if Broken.
	Joined *index.Joined
}

// Needs is what a plan lacks in a Snapshot. Reader.Fill gets it.
type Needs struct {
	// Lists are stretches of WAL whose segments must be listed: until then they
	// are taken for present (Snapshot.Unlisted). Whatever else is needed is asked for after that.
	Lists []Stretch
	// Chains are runs of segments, each following the one before it on a path.
	// Their indexes are needed, and that neighbours have been joined.
	Chains [][]wal.Segment
	// Scans look through much WAL for a few places.
	Scans []Scan
	// Segments are single ones whose indexes are needed.
	Segments []wal.Segment
	// Transactions are segments whose list of transactions is needed.
	Transactions []wal.Segment
	// Bases are backups whose packs and tables must be looked for.
	Bases []string
	// Records must be looked for in the WAL itself: each costs the reading of a
	// segment from one page on.
	Records []RecordQuery
	// Prepared asks what is left prepared where recovery stops.
	Prepared []PreparedQuery
}

// Empty reports whether nothing is lacking.
func (n Needs) Empty() bool {
	return len(n.Lists) == 0 && len(n.Chains) == 0 && len(n.Scans) == 0 && len(n.Segments) == 0 && len(n.Transactions) == 0 &&
		len(n.Bases) == 0 && len(n.Records) == 0 && len(n.Prepared) == 0
}

// Add records what a segment's index says; with transactions, its list is
// kept.
func (d *Details) Add(ix *index.Index, transactions bool) {
	if d.Indexes == nil {
		d.Indexes = map[wal.Segment]*index.Index{}
		d.Transactions = map[wal.Segment]bool{}
	}
	switch {
	case transactions:
		d.Indexes[ix.Segment] = ix
		d.Transactions[ix.Segment] = true
	case !d.Transactions[ix.Segment]:
		d.Indexes[ix.Segment] = ix.Compact()
	}
}

// AddLink records the result of joining two segments.
func (d *Details) AddLink(l Link, s LinkState) {
	if d.Links == nil {
		d.Links = map[Link]LinkState{}
	}
	d.Links[l] = s
}

// AddUnreadable records that a segment's index cannot be read.
func (d *Details) AddUnreadable(seg wal.Segment, why string) {
	if d.Unreadable == nil {
		d.Unreadable = map[wal.Segment]string{}
	}
	d.Unreadable[seg] = why
}

// Damage are the segments that were read and found unusable, as problems.
func (d *Details) Damage() []Problem {
	var list []Problem
	for seg, why := range d.Unreadable {
		list = append(list, Problem{Object: seg.Name(), Problem: why})
	}
	slices.SortFunc(list, func(a, b Problem) int { return strings.Compare(a.Object, b.Object) })
	return list
}

// AddBase records what is wrong with a backup's packs and tables; "": nothing.
func (d *Details) AddBase(id, wrong string) {
	if d.Bases == nil {
		d.Bases = map[string]string{}
	}
	d.Bases[id] = wrong
}
