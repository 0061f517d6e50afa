package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/wal"
)

// After a failover the old timeline's last segment alarms only if something lies
// behind the point where the new timeline left.
func TestListStranded(t *testing.T) {
	for name, c := range map[string]struct {
		switches []wal.LSN
		says     string
	}{
		"nothing behind":  {[]wal.LSN{0x3000800}, "open; a newer timeline went on from its end"},
		"a tail":          {[]wal.LSN{0x3000400}, "open; stranded: what lies behind 0/3000400 is on no newer timeline"},
		"left twice":      {[]wal.LSN{0x3000600, 0x3000200}, "open; stranded: what lies behind 0/3000600 is on no newer timeline"},
		"left twice, end": {[]wal.LSN{0x3000200, 0x3000800}, "open; a newer timeline went on from its end"},
	} {
		t.Run(name, func(t *testing.T) {
			old := catalog.Timeline{ID: 1, Live: []catalog.Live{{
				Segment: "000000010000000000000003", Start: 0x3000000, End: 0x3000800, Fragments: 1, Stranded: true,
			}}}
			d := listDocument{Snapshot: &catalog.Snapshot{Timelines: []catalog.Timeline{old}}}
			for i, lsn := range c.switches {
				d.Timelines = append(d.Timelines, catalog.Timeline{ID: wal.TimelineID(i + 2), Parent: 1, Switch: lsn})
			}
			var out bytes.Buffer
			renderLive(&out, d)
			if !strings.Contains(out.String(), c.says) {
				t.Errorf("want %q:\n%s", c.says, out.String())
			}
		})
	}
}
