package names

import (
	"strconv"
	"strings"
	"testing"

	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/storage/mem"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
)

// TestDatabaseGoesWhileItIsRead drops one database between the reading of pg_database and
// that of its catalogues, and one before its rows are transferred.
func TestDatabaseGoesWhileItIsRead(t *testing.T) {
	for _, major := range pgtest.Majors() {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			c := pgtest.New(t, pgtest.Options{Major: major, SegmentSizeMB: 1})
			repo, _, err := repository.Init(t.Context(), mem.New(), repository.Options{})
			if err != nil {
				t.Fatal(err)
			}
			inc, _, err := archive.CreateIncarnation(t.Context(), repo, "main", c.SystemID(), 1<<20, major)
			if err != nil {
				t.Fatal(err)
			}
			for _, sql := range []string{"CREATE DATABASE early", "CREATE DATABASE late"} {
				c.Exec(sql)
			}
			if err := c.TryExec(t.Context(), "late", "CREATE TABLE t (i int)"); err != nil {
				t.Fatal(err)
			}
			oid := c.QueryValue("SELECT oid FROM pg_database WHERE datname = 'early'")
			src := Source{Conninfo: c.Conninfo("postgres")}
			l, err := src.shared(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			c.Exec("DROP DATABASE early")
			if err := src.each(t.Context(), l); err != nil {
				t.Fatal(err)
			}
			c.Exec("DROP DATABASE late")
			r, err := NewTaker(repo, inc).keep(t.Context(), src, l)
			if err != nil || !r.Written || len(r.Unread) != 2 || r.Databases != 2 {
				t.Fatalf("%+v, %v", r, err)
			}
			for i, db := range []string{"early", "late"} {
				want := `the names in database ` + db + ` cannot be read: database "` + db + `" does not exist`
				if text := r.Unread[i].Error(); !strings.HasPrefix(text, want) {
					t.Errorf("%s, want %s", text, want)
				}
			}
			// It was there when the snapshot began.
			reader, err := Open(t.Context(), repo, inc, 0)
			if err != nil {
				t.Fatal(err)
			}
			n, err := strconv.ParseUint(oid, 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			if name, ok := reader.Resolver(t.Context(), wal.History{Timeline: 1}).Database(uint32(n), r.ID.LSN); !ok || name != "early" {
				t.Error(name, ok)
			}
		})
	}
}
