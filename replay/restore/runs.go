package restore

import (
	"cmp"
	"slices"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/storage/frame"
)

const (
	// runLength is how many raw bytes of a pack one read covers, about.
	runLength = 32 << 20
	// maxGap is how many raw bytes between two neighbours are read and thrown
	// away rather than asking the store anew.
	maxGap = 1 << 20
)

// packID names a pack.
type packID struct {
	backup string
	number int
}

// part is a piece of an extent that one run reads.
type part struct {
	file   *file
	index  int   // of the piece within its file
	at     int64 // in the file
	offset int64 // in the pack
	length int64
}

// readRun is one sequential read of a pack.
type readRun struct {
	pack  packID
	begin int64 // raw offsets in the pack
	end   int64
	parts []part
}

// extent is one extent of a file, with its place in the file.
type extent struct {
	basebackup.Extent
	file *file
	at   int64
}

// planRuns joins the extents of files into runs. Each file learns of its pieces.
func planRuns(files []*file) []readRun {
	var extents []extent
	for _, f := range files {
		if f.hollow {
			continue
		}
		at := int64(0)
		for _, x := range f.entry.Extents {
			extents = append(extents, extent{x, f, at})
			at += x.Length
		}
	}
	slices.SortStableFunc(extents, func(a, b extent) int {
		return cmp.Or(cmp.Compare(a.Backup, b.Backup), cmp.Compare(a.Pack, b.Pack), cmp.Compare(a.Offset, b.Offset))
	})
	var runs []readRun
	for _, x := range extents {
		runs = addExtent(runs, x)
	}
	// Pieces were numbered in the order of the packs; their order in the file
	// is what their checksums are combined in.
	for _, f := range files {
		f.pending = len(f.pieces)
	}
	return runs
}

// addExtent appends an extent to the last run or to new ones, in pieces that
// end where runs do.
func addExtent(runs []readRun, x extent) []readRun {
	id := packID{x.Backup, x.Pack}
	for offset, left := x.Offset, x.Length; left > 0; {
		var last *readRun
		if len(runs) > 0 {
			last = &runs[len(runs)-1]
		}
		if last == nil || last.pack != id || offset < last.end || offset-last.end > maxGap || offset >= last.limit() {
			runs = append(runs, readRun{pack: id, begin: offset, end: offset})
			last = &runs[len(runs)-1]
		}
		length := min(left, last.limit()-offset)
		at := x.at + (offset - x.Offset)
		last.parts = append(last.parts, part{file: x.file, index: x.file.addPiece(at, length), at: at, offset: offset, length: length})
		last.end = offset + length
		offset += length
		left -= length
	}
	return runs
}

// limit is where the run must end: at the end of a frame, so that no other run
// has to decompress it again.
func (r *readRun) limit() int64 {
	return (r.begin/frame.MaxFrame + runLength/frame.MaxFrame) * frame.MaxFrame
}
