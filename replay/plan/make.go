package plan

import (
	"errors"

	"github.com/walden-pg/walden/replay/catalog"
)

// Needs is what Make lacks in a Snapshot.
type Needs = catalog.Needs

// Need tells what must be loaded into the Snapshot (catalog.Reader.Fill) for
// Make to decide. What is needed can depend on what was loaded before:
// call it again until it is Empty. The error is one that Make would return
// whatever is loaded.
func Need(s *catalog.Snapshot, t Target) (Needs, error) {
	return Needs{}, errors.New("plan: in the making")
}

// Make decides how to restore to the target. The error is a *GapError,
// *UnreachableError, *AmbiguousError or *NoBackupError where the target cannot be
// reached, a plain error where it makes no sense (Target.Validate) or where
// Need is not met.
func Make(s *catalog.Snapshot, t Target) (*Plan, error) {
	return nil, errors.New("plan: in the making")
}
