package verify_test

import (
	"testing"
)

func TestNothingIsWrong(t *testing.T) {
	w := newWorld(t)
	o := options()
	o.NoRecord = true
	clean(t, w.store, o)
	o.Deep = true
	r := clean(t, w.store, o)
	for kind, tally := range r.Incarnations[0].Objects {
		t.Logf("%s: %d objects, %d bytes", kind, tally.Objects, tally.Bytes)
	}
	t.Logf("%+v", r.Incarnations[0])
	for _, b := range r.Backups {
		t.Logf("%+v", b)
	}
}
