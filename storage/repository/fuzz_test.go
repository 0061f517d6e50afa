package repository

import (
	"bytes"
	"errors"
	"testing"

	"github.com/walden-pg/walden/storage/frame"
)

// FuzzDescriptor feeds the reader of walden.json. It accepts what encode
// writes and nothing else, and names the object in every refusal.
func FuzzDescriptor(f *testing.F) {
	f.Add([]byte(golden))
	f.Add([]byte(`{"format": 2}`))
	f.Add([]byte(`{"format": 1, "repository": "", "encryption": "age", "created": "", "check": ""}`))
	f.Add([]byte("[]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseDescriptor(b)
		if err != nil {
			var e *frame.Error
			if !errors.As(err, &e) || e.Object != DescriptorKey || e.Offset < 0 {
				t.Fatalf("not a *frame.Error of walden.json: %v", err)
			}
			return
		}
		if !bytes.Equal(d.encode(), b) || d.id == [16]byte{} {
			t.Fatalf("accepted %q", b)
		}
	})
}
