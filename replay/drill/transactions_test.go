//go:build unix

package drill

import "testing"

func TestFullXID(t *testing.T) {
	for _, c := range []struct {
		near uint64
		xid  uint32
		want uint64
	}{
		{1000, 999, 999},
		{1000, 1001, 1001},
		{1000, 4294967290, 4294967290}, // there is no epoch before the first
		{1<<32 + 5, 4294967290, 4294967290},
		{1<<32 + 5, 7, 1<<32 + 7},
		{1<<32 - 3, 5, 1<<32 + 5},
		{7<<32 + 1<<31, 3, 7<<32 + 3},
	} {
		if got := fullXID(c.near, c.xid); got != c.want {
			t.Errorf("%d near %d: %d, want %d", c.xid, c.near, got, c.want)
		}
	}
}
