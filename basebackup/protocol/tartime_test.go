package protocol_test

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/walden-pg/walden/basebackup"
)

// timeSink records times of modification, 0 for an unknown one.
type timeSink struct {
	sink
	times map[string]int64
}

func (s *timeSink) File(h basebackup.Header, r io.Reader) error {
	s.times[h.Path] = h.ModTime.Unix()
	return s.sink.File(h, r)
}

// changedAt puts a time into the header that begins at from, as the server
// does: print_tar_number writes 64 bits without a sign.
func changedAt(archive []byte, from int, seconds int64) {
	h := archive[from:][:512]
	h[136] = 0x80
	for i := range 11 {
		h[147-i] = 0
		if i < 8 {
			h[147-i] = byte(uint64(seconds) >> (8 * i))
		}
	}
	copy(h[148:], "        ")
	sum := 0
	for _, b := range h {
		sum += int(b)
	}
	copy(h[148:], fmt.Sprintf("%07o\x00", sum))
}

// TestTimesBefore1970: files with such a time are backed up like all others.
func TestTimesBefore1970(t *testing.T) {
	body := strings.Repeat("b", 1000)
	for _, version := range versions[:2] {
		archive := archiveOf(t, version < 150000, file("one", body), file("two", ""), file("three", body), file("four", ""))
		changedAt(archive, 0, -1)
		changedAt(archive, 1536, -315619200)
		changedAt(archive, 2048, 1<<34) // what does not fit octal digits
		s := &script{version: version, main: archive, chunk: 777}
		got := &timeSink{times: map[string]int64{}}
		if err := runBackup(t, s.serve(t), got); err != nil {
			t.Fatal(err)
		}
		if len(got.entries) != 4 || string(got.entries[0].content) != body || string(got.entries[2].content) != body {
			t.Errorf("%d entries", len(got.entries))
		}
		for name, want := range map[string]int64{"one": 0, "two": 0, "three": 1 << 34, "four": 1700000000} {
			if got.times[name] != want {
				t.Errorf("%s was changed at %d, want %d", name, got.times[name], want)
			}
		}
		// A damaged header is not made good.
		archive[0] ^= 1
		if err := runBackup(t, s.serve(t), &sink{}); err == nil {
			t.Error("a damaged header is taken")
		}
	}
}
