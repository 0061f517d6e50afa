//go:build unix

package basebackup_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/walden-pg/walden/internal/pgtest"
)

// TestConfigFilesThatSetNothing: a file that is included must be there, or a
// restored server does not start, but the server's views do not name it if it
// sets nothing; and a file of the data directory that is a symbolic link is not
// sent.
func TestConfigFilesThatSetNothing(t *testing.T) {
	forEdgeMajors(t, func(t *testing.T, major int) {
		etc := pgtest.TempDir(t)
		at := func(name string) string { return filepath.Join(etc, name) }
		c := pgtest.New(t, pgtest.Options{Major: major, SegmentSizeMB: 1, NoStart: true})
		writeFile(t, at("main.conf"), "include 'comments.conf'\ninclude_if_exists 'absent.conf'\ninclude_dir 'conf.d'\n")
		writeFile(t, at("comments.conf"), "# nothing\ninclude_if_exists '"+at("more.conf")+"'\n")
		writeFile(t, at("more.conf"), "")
		writeFile(t, at("admins"), "postgres\n")
		if err := os.Mkdir(at("conf.d"), 0o755); err != nil {
			t.Fatal(err)
		}
		appendFile(t, filepath.Join(c.DataDir(), "postgresql.conf"), "include '"+at("main.conf")+"'\n")
		hba := filepath.Join(c.DataDir(), "pg_hba.conf")
		appendFile(t, hba, "local postgres @"+at("admins")+" trust\n")
		link := func(path string) {
			if err := os.Symlink(moveAway(t, path, etc), path); err != nil {
				t.Fatal(err)
			}
		}
		c.Start()

		s := newSite(t, c, c.Conninfo(""))
		m := s.take(s.options())
		want := []string{at("admins"), at("comments.conf"), at("main.conf"), at("more.conf")}
		if len(m.Warnings) != 0 || !slices.Equal(m.ConfigFiles, want) {
			t.Errorf("configuration files %q, warnings %q", m.ConfigFiles, m.Warnings)
		}

		// The data directory's own files are saved as soon as one of them is a link.
		link(hba)
		m = s.take(s.options())
		for _, name := range []string{"postgresql.conf", "pg_hba.conf", "pg_ident.conf"} {
			want = append(want, filepath.Join(c.DataDir(), name))
		}
		if slices.Sort(want); !slices.Equal(m.ConfigFiles, want) {
			t.Errorf("configuration files %q", m.ConfigFiles)
		}
		if len(m.Warnings) != 1 || !strings.Contains(m.Warnings[0], "pg_hba.conf") {
			t.Errorf("warnings %q", m.Warnings)
		}
		if _, configs := s.restore(m); !strings.Contains(configs[hba], "@"+at("admins")) {
			t.Errorf("configuration files %v", configs)
		}
	})
}
