package drill

import (
	"fmt"
	"path"
	"strings"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
)

// Scenario is a mishap that is played on a copy: the repository is shown with the damage
// (package overlay), and never changed.
type Scenario string

// The scenarios.
const (
	DamagedPack    Scenario = "damaged-pack"    // a bit of a pack is turned over
	MissingSegment Scenario = "missing-segment" // a WAL segment on the way has gone
	LostPrimary    Scenario = "lost-primary"    // the server is lost, now
	BucketDown     Scenario = "bucket-down"     // the repository fails while the WAL is replayed, and comes back
	OldTimeline    Scenario = "old-timeline"    // back to the timeline before the last switch
)

// expected says what must come of each.
var expected = map[Scenario]string{
	DamagedPack:    "the restore refuses the pack, by its name, and no server is started; another backup, if one leads to the moment, serves instead",
	MissingSegment: "the plan refuses, and names the segment; the nearest moment before it that it names can be restored",
	LostPrimary:    "what is in the repository comes back to the end of the WAL, without the server",
	BucketDown:     "PostgreSQL stops, and does not open short of the moment; once the repository is back the same recovery goes on to the planned stop",
	OldTimeline:    "the cluster comes back as it was at the end of the timeline before the last switch, whatever happened after it",
}

// Scenarios are all there are.
func Scenarios() []Scenario {
	return []Scenario{DamagedPack, MissingSegment, LostPrimary, BucketDown, OldTimeline}
}

// ParseScenario knows their names.
func ParseScenario(s string) (Scenario, error) {
	var names []string
	for _, c := range Scenarios() {
		if s == string(c) {
			return c, nil
		}
		names = append(names, string(c))
	}
	return "", fmt.Errorf("%q: it must be %s or %s", s, strings.Join(names[:len(names)-1], ", "), names[len(names)-1])
}

// ScenarioError says that a scenario cannot be played here.
type ScenarioError struct {
	Scenario Scenario
	Reason   string
}

// Error gives the reason.
func (e *ScenarioError) Error() string {
	return fmt.Sprintf("scenario %s cannot be played: %s", e.Scenario, e.Reason)
}

// segmentKeys are prefixes of the keys of all that can deliver a segment.
func segmentKeys(inc archive.Incarnation, seg wal.Segment) []string {
	fragment := archive.FragmentKey(inc, archive.Fragment{Segment: seg, To: 1})
	return []string{archive.SegmentKey(inc, seg), path.Dir(fragment) + "/"}
}
