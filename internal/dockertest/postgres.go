//go:build unix

package dockertest

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/walden-pg/walden/internal/pgtest"
)

// postgresEntrypoint does what users of the official image rely on.
//
//go:embed postgres-entrypoint.sh
var postgresEntrypoint string

// postgresID is the user and group postgres of the official image (Debian's).
const postgresID = 999

// Postgres returns the name of an image with this major of PostgreSQL: the
// official one, or a stand-in with the same user and group (999), environment
// (POSTGRES_PASSWORD, POSTGRES_USER, POSTGRES_DB, POSTGRES_INITDB_ARGS,
// POSTGRES_HOST_AUTH_METHOD, PGDATA), /docker-entrypoint-initdb.d, volume and
// way with arguments. A major that is not installed skips the test, or fails
// it, as in pgtest.
func (e *Engine) Postgres(major int) string {
	e.t.Helper()
	if image := e.official(fmt.Sprintf("postgres:%d", major)); image != "" {
		return image
	}
	return e.standin("postgres:"+strconv.Itoa(major), e.postgresFiles(major))
}

func (e *Engine) postgresFiles(major int) *rootfs {
	e.t.Helper()
	bin := pgtest.BinDir(e.t, major)
	r := newRootfs()
	r.programs("bash", "sh", "setpriv", "find", "grep", "sed", "gzip",
		"cat", "chmod", "chown", "cp", "date", "du", "env", "false", "head", "id", "install", "ls", "mkdir", "mv", "rm",
		"sleep", "stat", "sync", "tail", "tee", "touch", "true", "wc")
	r.write("/etc/passwd", 0o644, fmt.Sprintf("root:x:0:0:root:/root:/bin/bash\npostgres:x:%[1]d:%[1]d::/var/lib/postgresql:/bin/bash\n", postgresID))
	r.write("/etc/group", 0o644, fmt.Sprintf("root:x:0:\npostgres:x:%d:\n", postgresID))
	r.tree("/usr/share/zoneinfo", func(path string) bool { // two variants of everything, which PostgreSQL does not use
		return path == "/usr/share/zoneinfo/right" || path == "/usr/share/zoneinfo/posix"
	})
	if _, err := os.Stat("/usr/lib/locale/C.utf8"); err == nil {
		r.tree("/usr/lib/locale/C.utf8", nil)
	}
	r.server(bin, major)
	for _, dir := range []string{"/var/lib/postgresql", "/var/run/postgresql", "/var/lib/postgresql/data"} {
		r.directory(dir, 0o1777, postgresID)
	}
	r.directory("/docker-entrypoint-initdb.d", 0o755, 0)
	r.write("/usr/local/bin/docker-entrypoint.sh", 0o755, postgresEntrypoint)
	r.change("ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:" + bin)
	r.change("ENV LANG=C.UTF-8")
	r.change(fmt.Sprintf("ENV PG_MAJOR=%d", major))
	if major >= 18 {
		r.change(fmt.Sprintf("ENV PGDATA=/var/lib/postgresql/%d/docker", major))
		r.change("VOLUME /var/lib/postgresql")
	} else {
		r.change("ENV PGDATA=/var/lib/postgresql/data")
		r.change("VOLUME /var/lib/postgresql/data")
	}
	r.change(`ENTRYPOINT ["docker-entrypoint.sh"]`)
	r.change(`CMD ["postgres"]`)
	r.change("STOPSIGNAL SIGINT")
	r.change("EXPOSE 5432")
	return r
}

// server adds the programs of a major. What scripts/install-postgres.sh installed
// brings its libraries along, and stays where it is: its programs know the path.
func (r *rootfs) server(bin string, major int) {
	skip := func(path string) bool {
		base := filepath.Base(path)
		return base == "bitcode" || base == "pgxs" || base == "locale" || strings.HasPrefix(base, "llvmjit") || base == "doc" || base == "man"
	}
	m := strconv.Itoa(major)
	lib := filepath.Dir(bin)
	share := "/usr/share/postgresql/" + m
	if root, ok := strings.CutSuffix(bin, "/usr/lib/postgresql/"+m+"/bin"); ok && root != "" {
		r.tree(root, skip)
		share = root + share
	} else {
		r.tree(lib, skip)
		r.tree(share, skip)
		for _, pattern := range []string{filepath.Join(bin, "*"), filepath.Join(lib, "lib", "*.so")} {
			files, err := filepath.Glob(pattern)
			if err != nil {
				r.err = err
				return
			}
			for _, f := range files {
				if !skip(f) {
					r.libraries(f)
				}
			}
		}
	}
	// The official image lets every new cluster listen.
	sample := filepath.Join(share, "postgresql.conf.sample")
	text, err := os.ReadFile(sample)
	if err != nil {
		r.err = err
		return
	}
	r.write(sample, 0o644, string(text)+"\nlisten_addresses = '*'\n")
}
