package verify

import (
	"slices"
	"testing"
	"time"
)

func TestSuccessor(t *testing.T) {
	for name, want := range map[string]string{
		"000000": "000001", "000009": "000010", "999999": "", "12345": "", "12345x": "",
		"000000010000000000000009": "00000001000000000000000A", "0000000100000002000000FF": "000000010000000200000100",
		"0000000100000000FFFFFFFF": "", "manifest": "",
	} {
		if got := successor(name); got != want {
			t.Errorf("after %q comes %q, not %q", name, got, want)
		}
	}
}

// An inventory finds what was added, and nothing else; as a record it stays what it is.
func TestInventory(t *testing.T) {
	v := newInventory()
	added := map[string]int64{}
	add := func(rest string, read int64) {
		v.add(rest, read)
		added[rest] = read
	}
	add("backups/a/manifest", 5)
	for _, name := range []string{"000000", "000001", "000002", "000007", "000008"} {
		add("packs/a/"+name, 5)
	}
	add("packs/b/000000", 0)
	add("packs/b/000001", 7)
	for _, name := range []string{"00000001000000000000000A", "00000001000000000000000A.partial", "00000001000000000000000B", "00000001000000000000000C"} {
		add("wal/00000001/00000000/"+name, 9)
	}
	if n := len(v.dirs["packs/a/"]); n != 2 {
		t.Errorf("%d runs", n)
	}
	check := func(v *inventory) {
		t.Helper()
		seen := map[string]int64{}
		for rest, read := range v.all() {
			seen[rest] = read
		}
		if len(seen) != len(added) {
			t.Errorf("%d objects of %d", len(seen), len(added))
		}
		for rest, read := range added {
			if got, ok := v.find(rest); !ok || got != read || seen[rest] != read {
				t.Errorf("%s: %d, %v", rest, got, ok)
			}
		}
		for _, rest := range []string{
			"packs/a/000003", "packs/a/000006", "packs/a/000009", "packs/a/00000", "packs/c/000000", "backups/a/started", "backups/a/manifesu",
			"wal/00000001/00000000/00000001000000000000000D", "wal/00000001/00000000/000000020000000000000000B", "wal/00000001/00000000/00000001000000000000000B.partial",
		} {
			if _, ok := v.find(rest); ok {
				t.Errorf("%s is found", rest)
			}
		}
		if got := v.times(8); !slices.Equal(got, []int64{0, 5, 7}) {
			t.Errorf("times %v", got)
		}
	}
	check(v)
	b, err := (&record{Format: recordFormat, Began: time.Now(), inventory: v}).encode()
	if err != nil {
		t.Fatal(err)
	}
	r, err := decodeRecord(b)
	if err != nil {
		t.Fatal(err)
	}
	check(r.inventory)
}

func TestRecordsThatMakeNoSense(t *testing.T) {
	for _, text := range []string{
		``, `{}`, `{"format":2}`, `[]`,
		`{"format":1,"objects":[{"dir":"packs","runs":[]}]}`,
		`{"format":1,"objects":[{"dir":"packs/","runs":[]},{"dir":"packs/","runs":[]}]}`,
		`{"format":1,"objects":[{"dir":"packs/","runs":[{"first":""}]}]}`,
		`{"format":1,"objects":[{"dir":"packs/","runs":[{"first":"000002","last":"000001"}]}]}`,
		`{"format":1,"objects":[{"dir":"packs/","runs":[{"first":"a","last":"b"}]}]}`,
		`{"format":1,"objects":[{"dir":"packs/","runs":[{"first":"000002"},{"first":"000001"}]}]}`,
	} {
		if _, err := decodeRecord([]byte(text)); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
}

// FuzzRecord: whatever is taken for a record can be walked, within bounds, and written again.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"format":1,"began":"2026-11-22T12:00:00Z","objects":[{"dir":"packs/a/","runs":[{"first":"000000","last":"000041","read":"2026-11-22T12:00:00.5Z"}]}],"backups":[]}`))
	f.Add([]byte(`{"format":1,"objects":[{"dir":"wal/","runs":[{"first":"000000010000000000000001","last":"000000010000000000000002"},{"first":"x"}]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRecord(b)
		if err != nil {
			return
		}
		n := 0
		for rest := range r.inventory.all() {
			if _, ok := r.inventory.find(rest); !ok {
				t.Fatalf("%q is not found in its own inventory", rest)
			}
			if n++; n > 10000 {
				break
			}
		}
		again, err := r.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeRecord(again); err != nil {
			t.Fatalf("what was written again is not taken: %v", err)
		}
	})
}
