package catalog

import (
	"github.com/walden-pg/walden/wal/archive"
)

// Sketched is a copy of a Snapshot of which all is listed, in the state in which
// Reader.Sketch leaves one: of segments only the ends of the timelines are listed, and
// the others in units of so many, rather than logs, by Reveal. The two serve tests of
// whoever decides on Snapshots: it must make no difference.
func (s *Snapshot) Sketched(unit uint64) *Snapshot {
	c := *s
	c.Details, c.asked, c.Timelines = Details{}, nil, nil
	for _, t := range s.Timelines {
		var live []archive.LiveSegment
		for _, l := range t.Live {
			live = append(live, l.listed)
		}
		segments := s.sealed(t)
		t.listing = nil
		c.Timelines = append(c.Timelines, t)
		x := &c.Timelines[len(c.Timelines)-1]
		x.sketch(0, 0, unit, live)
		x.listing.unlisted = nil
		if n := len(segments); n > 0 {
			first, last := segments[0].Segment.Number/unit*unit, segments[n-1].Segment.Number/unit*unit
			x.listing.unlisted = []Stretch{{Timeline: t.ID, First: first, Last: last + unit - 1}}
			c.Reveal(s, []Stretch{{Timeline: t.ID, First: last, Last: last + unit - 1}})
		}
		for _, l := range live {
			n := l.Segment.Number / unit * unit
			c.Reveal(s, []Stretch{{Timeline: t.ID, First: n, Last: n + unit - 1}})
		}
		x.settle(s.SegmentSize)
	}
	c.markStranded()
	return &c
}

// Reveal lists stretches of a Sketched Snapshot from the whole one.
func (s *Snapshot) Reveal(whole *Snapshot, stretches []Stretch) {
	for i := range s.Timelines {
		t := &s.Timelines[i]
		if t.listing == nil {
			continue
		}
		all, _ := whole.Timeline(t.ID)
		for _, x := range stretches {
			for _, u := range t.still(x) {
				var part []archive.Entry
				for _, e := range whole.sealed(all) {
					if e.Segment.Number >= u.First && e.Segment.Number <= u.Last {
						part = append(part, e)
					}
				}
				t.add(u, part, nil)
			}
		}
		t.settle(s.SegmentSize)
	}
	s.markStranded()
}

// sealed are a timeline's segments that are not in fragments.
func (s *Snapshot) sealed(t Timeline) []archive.Entry {
	var list []archive.Entry
	for _, r := range t.Ranges {
		for n := r.First; n <= r.Last; n++ {
			seg := s.Segment(t.ID, n)
			if _, live := s.LiveSegment(seg); !live {
				list = append(list, archive.Entry{Segment: seg})
			}
		}
	}
	return list
}
