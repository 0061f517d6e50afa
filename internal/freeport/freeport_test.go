package freeport

import "testing"

// TestReserve: a port is given once while it is reserved, whether a server
// listens there already or not, and can be listened on.
func TestReserve(t *testing.T) {
	seen := map[int]bool{}
	for i := range 200 {
		port, release, err := Reserve()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(release)
		if seen[port] {
			t.Fatalf("port %d was given twice", port)
		}
		seen[port] = true
		if i%2 == 0 {
			l, err := listen(port)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
		}
	}
}

// TestRelease: what is released can be had again.
func TestRelease(t *testing.T) {
	port, release, err := Reserve()
	if err != nil {
		t.Fatal(err)
	}
	if l, err := listen(port - guardOffset); err == nil {
		_ = l.Close()
		t.Fatal("the guard does not listen")
	}
	release()
	l, err := listen(port - guardOffset)
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}
