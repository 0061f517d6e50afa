package frame

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write missing golden files; existing ones are never changed")

// goldenRaw is the content of the golden objects: two frames, and pages that
// compress well, hardly and not at all. It must never change.
func goldenRaw() []byte {
	raw := make([]byte, MaxFrame+3*PageSize+77)
	state := uint32(1)
	for i := range raw {
		switch i / PageSize % 64 {
		case 0:
			state = state*1664525 + 1013904223
			raw[i] = byte(state >> 24)
		case 1:
			raw[i] = "walden"[i%6]
		default:
			raw[i] = byte(i / PageSize)
		}
	}
	return raw
}

func goldenOptions(c Codec) WriterOptions {
	return WriterOptions{Kind: KindPack, Codec: c, Name: "golden/object", RepositoryID: testRepo, RawDigest: true, PageHash: true}
}

var goldenSections = []Section{{0x20, []byte("section 20")}, {0x10, []byte{}}, {0xffff, []byte{0, 1, 2}}}

// TestGolden reads objects that earlier versions wrote. A change of the format
// needs a new version and new files: these stay readable.
//
// What this version writes is compared with them byte for byte, but for the
// frames of compressors, whose output may change with their library, and what
// follows from it.
func TestGolden(t *testing.T) {
	for _, c := range codecs {
		for name, raw := range map[string][]byte{"object": goldenRaw(), "empty": nil} {
			t.Run(c.String()+"/"+name, func(t *testing.T) {
				fresh := mustEncode(t, raw, goldenOptions(c), goldenSections...)
				file := filepath.Join("testdata", "golden", "v1-"+c.String()+"-"+name)
				golden, err := os.ReadFile(file)
				if os.IsNotExist(err) && *update {
					golden, err = fresh, os.WriteFile(file, fresh, 0o644)
				}
				if err != nil {
					t.Fatal(err)
				}
				checkGolden(t, golden, raw)
				if c == CodecNone || len(raw) == 0 {
					if !bytes.Equal(fresh, golden) {
						t.Error("what is written now differs from the golden file")
					}
					return
				}
				compareFacts(t, fresh, golden)
			})
		}
	}
}

func checkGolden(t *testing.T, golden, raw []byte) {
	t.Helper()
	obj := mustOpen(t, BytesRange(golden), ReadOptions{Name: "golden/object", RepositoryID: testRepo, WantKind: KindPack})
	got, err := obj.ReadAll(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	equal(t, got, raw)
	if err := obj.Verify(context.Background()); err != nil {
		t.Error(err)
	}
	for _, s := range goldenSections {
		if data, ok := obj.Section(s.Type); !ok || !bytes.Equal(data, s.Data) {
			t.Errorf("section %#x is %q", s.Type, data)
		}
	}
}

// compareFacts compares two objects of the same bytes, whose frames may be
// compressed differently: index and footer must agree where they speak of raw
// bytes.
func compareFacts(t *testing.T, a, b []byte) {
	t.Helper()
	mask := func(stored []byte) []byte {
		obj := mustOpen(t, BytesRange(stored), ReadOptions{})
		f := obj.footer
		x := bytes.Clone(stored[f.IndexOffset:f.BodyLength])
		for i := range obj.index.frames {
			entry := x[indexHeaderSize+i*frameEntrySize:]
			clear(entry[0:4])  // stored length
			clear(entry[8:12]) // stored checksum
		}
		clear(x[len(x)-4:])
		foot := bytes.Clone(stored[len(stored)-FooterSize:])
		clear(foot[40:56])      // body length, index offset
		clear(foot[128:160])    // stored digest
		clear(foot[footerCRC:]) // checksum
		return append(x, foot...)
	}
	if !bytes.Equal(mask(a), mask(b)) {
		t.Error("index or footer differ from the golden file")
	}
}
