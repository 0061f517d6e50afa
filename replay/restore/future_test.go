package restore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walden-pg/walden/basebackup"
)

// Of transactions that were prepared after the backup began the files are left out
// where the server would stumble over them; the others stay.
func TestFuturePrepared(t *testing.T) {
	const old, next = "pg_twophase/00000001000002BC", "pg_twophase/00000001000002BD"
	for _, c := range []struct {
		major   int
		nextXID uint64
		dropped bool
	}{{17, 1<<32 | 0x2BD, true}, {17, 1<<32 | 0x2BE, false}, {18, 1<<32 | 0x2BD, true}, {16, 1<<32 | 0x2BD, false}, {17, 0, false}} {
		f := newFixture(t, fixtureOptions{})
		f.manifest.Major, f.manifest.ServerVersion = c.major, c.major*10000
		for _, name := range []string{old, next} {
			f.add(basebackup.FileEntry{Path: name, Kind: basebackup.KindFile, Mode: 0o600}, []byte("prepared"))
		}
		f.publish(fixtureOptions{})
		p, o := f.plan(), f.options(t)
		p.NextXID = c.nextXID
		res, err := run(t.Context(), f.repo, p, o, tempDisk{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(o.To, old)); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
		_, err = os.Stat(filepath.Join(o.To, next))
		told := strings.Contains(strings.Join(res.Warnings, "\n"), next)
		if errors.Is(err, fs.ErrNotExist) != c.dropped || told != c.dropped {
			t.Errorf("%+v: %v, warnings %q", c, err, res.Warnings)
		}
	}
}
