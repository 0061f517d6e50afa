//go:build unix

package dockertest

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/pgtest"
)

// TestStandinPostgres: the image does what the official one is known for.
func TestStandinPostgres(t *testing.T) {
	all := pgtest.Majors() // the first is the system's own where it is Debian 12, the last is unpacked
	for _, major := range slices.Compact([]int{all[0], all[len(all)-1]}) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			e := Start(t)
			image := e.standin("postgres:"+strconv.Itoa(major), e.postgresFiles(major))
			initdb := t.TempDir()
			script := "psql -v ON_ERROR_STOP=1 -U \"$POSTGRES_USER\" -d \"$POSTGRES_DB\" -c 'CREATE TABLE made_by_script (i int)'\n" +
				"echo 'host replication all all trust' >> \"$PGDATA/pg_hba.conf\"\n"
			if err := os.WriteFile(filepath.Join(initdb, "10.sh"), []byte(script), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(initdb, 0o755); err != nil {
				t.Fatal(err)
			}
			id := e.Docker("run", "-d", e.Label(), "-e", "POSTGRES_PASSWORD=secret", "-e", "POSTGRES_USER=ann", "-e", "POSTGRES_DB=shop",
				"-e", "PGDATA=/elsewhere", "-e", "POSTGRES_INITDB_ARGS=--data-checksums --wal-segsize=1",
				"-v", initdb+":/docker-entrypoint-initdb.d:ro", image, "-c", "max_connections=17")
			e.waitFor(t, func() bool {
				_, err := e.Try("exec", id, "pg_isready", "-q", "-h", "127.0.0.1")
				return err == nil
			}, id)
			query := func(sql string) string {
				return e.Docker("exec", "-e", "PGPASSWORD=secret", id, "psql", "-h", "127.0.0.1", "-U", "ann", "-d", "shop", "-AtXc", sql)
			}
			for sql, want := range map[string]string{
				"SHOW server_version_num":                             strconv.Itoa(major),
				"SHOW max_connections":                                "17",
				"SHOW data_checksums":                                 "on",
				"SHOW wal_segment_size":                               "1MB",
				"SHOW data_directory":                                 "/elsewhere",
				"SELECT count(*) FROM made_by_script":                 "0",
				"SELECT rolsuper FROM pg_roles WHERE rolname = 'ann'": "t",
			} {
				if got := query(sql); !strings.HasPrefix(got, want) {
					t.Errorf("%s: %q, want %q", sql, got, want)
				}
			}
			// What comes from the same address needs none: initdb lets it in.
			address := e.Docker("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", id)
			if out, err := e.Try("exec", "-e", "PGPASSWORD=wrong", id, "psql", "-h", address, "-U", "ann", "-d", "shop", "-c", "SELECT 1"); err == nil {
				t.Errorf("a wrong password is let in: %s", out)
			}
			if got := e.Docker("exec", id, "stat", "-c", "%u %a", "/elsewhere"); got != "999 700" {
				t.Errorf("the data directory: %s", got)
			}
			e.Docker("stop", "--time", "30", id)
			if code := e.Docker("inspect", "-f", "{{.State.ExitCode}}", id); code != "0" {
				t.Errorf("stopped, the server exits with %s", code)
			}
		})
	}
}

// waitFor waits for something that a container does.
func (e *Engine) waitFor(t *testing.T, done func() bool, container string) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !done(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			log, err := exec.Command("docker", "logs", container).CombinedOutput()
			t.Fatalf("waited two minutes in vain; its log (%v):\n%s", err, log)
		}
	}
}

// TestLeftovers: what a run made goes with its test, and with the next test
// where its process was killed; what belongs to a process that lives stays.
func TestLeftovers(t *testing.T) {
	e := Start(t)
	r := newRootfs()
	r.programs("sleep")
	r.change(`CMD ["sleep", "600"]`)
	tag := e.standin("sleep:1", r)

	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	killed := &Engine{t: t, run: runPrefix + strconv.Itoa(dead.Process.Pid) + "-1"}
	living := &Engine{t: t, run: runPrefix + strconv.Itoa(os.Getpid()) + "-living"}
	t.Cleanup(func() { living.removeRuns(func(run string) bool { return run == living.run }) })
	count := func(e *Engine) int {
		n := len(strings.Fields(e.Docker("ps", "-aq", "--filter", "label="+runLabel+"="+e.run)))
		n += len(strings.Fields(e.Docker("volume", "ls", "-q", "--filter", "label="+runLabel+"="+e.run)))
		n += len(strings.Fields(e.Docker("network", "ls", "-q", "--filter", "label="+projectLabel+"="+e.run)))
		n += len(strings.Fields(e.Docker("images", "-q", "--filter", "label="+projectLabel+"="+e.run)))
		return n + len(strings.Fields(e.Docker("images", "-q", e.run+"/*")))
	}
	for _, owner := range []*Engine{killed, living} {
		image := owner.standin("sleep:1", r)
		if got, want := e.Docker("image", "inspect", "-f", "{{.Id}}", image), e.Docker("image", "inspect", "-f", "{{.Id}}", tag); got != want {
			t.Errorf("the same content was imported twice: %s and %s", got, want)
		}
		volume := e.Docker("volume", "create", owner.Label())
		e.Docker("network", "create", "--label", projectLabel+"="+owner.run, owner.run)
		e.Docker("run", "-d", owner.Label(), "-v", volume+":/data", "--network", owner.run, image)
		if err := e.feed(strings.NewReader("FROM "+image+"\nCMD [\"true\"]\n"), "build", "--label", projectLabel+"="+owner.run, "-"); err != nil {
			t.Fatal(err)
		}
		if n := count(owner); n != 5 {
			t.Fatalf("%d objects of %s", n, owner.run)
		}
	}
	t.Run("next", func(t *testing.T) { Start(t) })
	if n := count(killed); n != 0 {
		t.Errorf("%d objects of a process that is gone are still there", n)
	}
	if n := count(living); n != 5 {
		t.Errorf("of a process that lives %d objects are left, of 5", n)
	}
	for _, err := range e.removeRuns(func(run string) bool { return run == living.run }) {
		t.Error(err)
	}
	if n := count(living); n != 0 {
		t.Errorf("%d objects are left", n)
	}
	if !e.Has(tag) {
		t.Error("the image was removed with another run's name for it")
	}
}
