//go:build unix

package databases

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/walden-pg/walden/internal/pgtest"
)

// The catalogues are read from the files of servers, with rows that were changed and
// deleted, and catalogues that were rewritten.
func TestAgainstServers(t *testing.T) {
	for _, major := range pgtest.Majors() {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			c := pgtest.New(t, pgtest.Options{Major: major})
			for _, sql := range []string{"CREATE DATABASE app", `CREATE DATABASE "tor""en"`, "CREATE DATABASE gone", "CREATE DATABASE model IS_TEMPLATE true",
				"ALTER DATABASE app RENAME TO anew", "DROP DATABASE gone", "CREATE ROLE somebody", "VACUUM FULL pg_authid", "CHECKPOINT"} {
				c.Exec(sql)
			}
			read := func(name string) []byte {
				b, err := os.ReadFile(filepath.Join(c.DataDir(), "global", name))
				if err != nil {
					t.Fatal(err)
				}
				return b
			}
			files, err := parseMap(read("pg_filenode.map"))
			if err != nil {
				t.Fatal(err)
			}
			live := map[string]string{}
			names := map[string]bool{}
			for _, r := range rows(read(fmt.Sprint(files[databaseRelation]))) {
				names[r.name] = true
				if r.live {
					live[r.name] = fmt.Sprintf("%d %v", r.oid, r.isTemplate(major))
				}
			}
			want := c.Query("SELECT datname, oid || ' ' || datistemplate FROM pg_database")
			for _, w := range want {
				if live[w[0]] != w[1] {
					t.Errorf("database %s is %q, want %q", w[0], live[w[0]], w[1])
				}
			}
			if len(live) != len(want) || !names["app"] {
				t.Errorf("live %v, all %v", live, names)
			}
			found := ""
			for _, r := range rows(read(fmt.Sprint(files[authIDRelation]))) {
				if r.oid == bootstrapUser {
					found = r.name
				}
			}
			if super := c.QueryValue("SELECT rolname FROM pg_authid WHERE oid = 10"); found != super {
				t.Errorf("superuser %q, want %q", found, super)
			}
		})
	}
}
