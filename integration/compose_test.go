//go:build unix

package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/dockertest"
	"github.com/walden-pg/walden/internal/pgtest"
)

// composeMajor is the major of the compose file's default image.
const composeMajor = 17

// stack is the compose file's project, under test.
type stack struct {
	t        *testing.T
	engine   *dockertest.Engine
	compose  *dockertest.Compose
	sections map[string][]string // the commands of docs/docker.md by heading
	ran      map[string]bool     // headings whose commands were run
	client   string              // container of the load's client
}

// TestCompose walks through docs/docker.md with its own commands, beside a client
// of the database that notes which commits were acknowledged to it: the database
// is lost twice, at first with a stream that no commit waits for, then with one
// that commits wait for.
func TestCompose(t *testing.T) {
	engine := dockertest.Start(t)
	root := pgtest.ModuleRoot(t)
	s := &stack{t: t, engine: engine, sections: commandsOf(t, filepath.Join(root, "docs", "docker.md")), ran: map[string]bool{}}
	s.compose = engine.Compose(project(t, root), variables(engine)...)
	t.Cleanup(func() {
		if t.Failed() {
			logs, _ := s.compose.Try("logs", "--no-color", "--tail", "100")
			t.Logf("the services' logs:\n%s", logs)
		}
	})

	// One after the other: the second build shares the stages of the first, and
	// leaves none without a name.
	s.compose.Run("build", "init")
	s.compose.Run("build", "db")
	s.section("Start")
	s.section("Load")
	s.load("asynchronous")
	s.section("Lose the database")
	s.section("Restore")
	restored := s.section("Look")
	if ticks := count(t, restored); ticks == 0 {
		t.Errorf("no row of the walk's own is there:\n%s", restored)
	}
	if lost, seconds := s.loss("asynchronous"); seconds >= 2 {
		t.Errorf("%d acknowledged commits are lost, of the last %.3f s", lost, seconds)
	}

	s.section("Lose nothing")
	s.eventually("commits wait for the stream", func() bool {
		return s.psql("SELECT count(*) FROM pg_stat_replication WHERE application_name = 'walden' AND sync_state = 'sync'") == "1"
	})
	s.load("synchronous")
	s.section("Lose the database")
	s.section("Restore")
	s.section("Look")
	if lost, seconds := s.loss("synchronous"); lost != 0 {
		t.Errorf("%d acknowledged commits are lost, of the last %.3f s", lost, seconds)
	}
	s.healthy()
	s.section("Remove it all")
	if left := engine.Docker("volume", "ls", "-q", "--filter", "label=com.docker.compose.project="+engine.Run()); left != "" {
		t.Errorf("volumes are left: %s", left)
	}
	for heading := range s.sections {
		if !s.ran[heading] {
			t.Errorf("docs/docker.md: nobody has run the commands below %q", heading)
		}
	}
}

// project makes a directory with what compose needs of the repository, and the
// binary under test in the place where docker/prebuilt.Dockerfile takes it from.
func project(t *testing.T, root string) string {
	t.Helper()
	bin, err := builtBinary()
	check(t, err)
	dir := t.TempDir()
	check(t, os.CopyFS(filepath.Join(dir, "docker"), os.DirFS(filepath.Join(root, "docker"))))
	for from, to := range map[string]string{
		filepath.Join(root, "docker-compose.yml"): "docker-compose.yml",
		filepath.Join(root, ".env"):               ".env",
		filepath.Join(root, ".dockerignore"):      ".dockerignore",
		bin:                                       "bin/walden",
	} {
		info, err := os.Stat(from)
		check(t, err)
		b, err := os.ReadFile(from)
		check(t, err)
		to = filepath.Join(dir, to)
		check(t, os.MkdirAll(filepath.Dir(to), 0o755))
		check(t, os.WriteFile(to, b, info.Mode()))
	}
	return dir
}

// variables select images of this run: made of the binary under test, upon
// official images or what stands in for them.
func variables(e *dockertest.Engine) []string {
	return []string{
		"POSTGRES_IMAGE=" + e.Postgres(composeMajor),
		"S3_IMAGE=" + e.S3(),
		"WALDEN_IMAGE=" + e.Run() + "/walden:test",
		"WALDEN_POSTGRES_IMAGE=" + e.Run() + "/walden-postgres:test",
		"WALDEN_DOCKERFILE=docker/prebuilt.Dockerfile",
	}
}

// commandsOf reads the commands of a document: lines that begin with a dollar
// sign in blocks of the language console, by the heading they stand under.
func commandsOf(t *testing.T, path string) map[string][]string {
	t.Helper()
	b, err := os.ReadFile(path)
	check(t, err)
	sections := map[string][]string{}
	heading, inside := "", false
	for line := range strings.Lines(string(b)) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```console"
		case inside && strings.HasPrefix(line, "$ "):
			sections[heading] = append(sections[heading], strings.TrimPrefix(line, "$ "))
		case !inside && strings.HasPrefix(line, "## "):
			heading = strings.TrimPrefix(line, "## ")
		}
	}
	return sections
}

// section runs the commands below a heading as they are written, but for the
// project's name, and returns what the last one printed.
func (s *stack) section(heading string) (out string) {
	s.t.Helper()
	if len(s.sections[heading]) == 0 {
		s.t.Fatalf("docs/docker.md has no commands below %q", heading)
	}
	s.ran[heading] = true
	for _, line := range s.sections[heading] {
		line = strings.ReplaceAll(line, "walden_pgdata", s.engine.Run()+"_pgdata")
		began := time.Now()
		var err error
		if out, err = s.compose.Shell(line); err != nil {
			s.t.Fatalf("%s: %v", heading, err)
		}
		s.t.Logf("%s: %.1f s: %s", heading, time.Since(began).Seconds(), line)
	}
	return out
}

// container is the id of a service's.
func (s *stack) container(service string) string {
	s.t.Helper()
	return s.engine.Docker("ps", "-a", "-q", "--no-trunc", "--filter", "label=com.docker.compose.project="+s.engine.Run(),
		"--filter", "label=com.docker.compose.oneoff=False", "--filter", "label=com.docker.compose.service="+service)
}

// psql asks the database.
func (s *stack) psql(sql string) string {
	s.t.Helper()
	return s.engine.Docker("exec", s.container("db"), "psql", "-U", "postgres", "-AtXqc", sql)
}

// load starts a client in a container of its own that commits as fast as it can
// and notes what was acknowledged; it returns once that is something.
func (s *stack) load(table string) {
	s.t.Helper()
	s.psql("CREATE TABLE " + table + " (n int GENERATED ALWAYS AS IDENTITY, at timestamptz DEFAULT clock_timestamp())")
	statement := "INSERT INTO " + table + " DEFAULT VALUES RETURNING n, extract(epoch FROM at);"
	s.client = s.engine.Docker("run", "-d", s.engine.Label(), "--network", s.engine.Run()+"_default", "-e", "PGPASSWORD=postgres",
		"--entrypoint", "bash", s.engine.Postgres(composeMajor),
		"-c", "while echo '"+statement+"'; do :; done | psql -h db -U postgres -d postgres -AtXq")
	s.eventually("acknowledged commits", func() bool { return len(s.acknowledged()) > 200 })
}

type commit struct {
	n  int
	at float64 // seconds
}

var acknowledgedLine = regexp.MustCompile(`(?m)^(\d+)\|(\d+\.\d+)$`)

// acknowledged are the commits that the client has been told of, in their order.
func (s *stack) acknowledged() []commit {
	s.t.Helper()
	var all []commit
	for _, m := range acknowledgedLine.FindAllStringSubmatch(s.engine.Docker("logs", s.client), -1) {
		n, err := strconv.Atoi(m[1])
		check(s.t, err)
		at, err := strconv.ParseFloat(m[2], 64)
		check(s.t, err)
		all = append(all, commit{n, at})
	}
	return all
}

// loss compares what was acknowledged with what is there: how many commits are
// missing, and how far the last that is there lies before the last one.
func (s *stack) loss(table string) (lost int, seconds float64) {
	s.t.Helper()
	all := s.acknowledged()
	if len(all) == 0 {
		s.t.Fatal("nothing was acknowledged")
	}
	last := all[len(all)-1]
	fields := strings.Split(s.psql("SELECT count(*), max(n), extract(epoch FROM max(at)) FROM "+table), "|")
	rows, err := strconv.Atoi(fields[0])
	check(s.t, err)
	newest, err := strconv.Atoi(fields[1])
	check(s.t, err)
	at, err := strconv.ParseFloat(fields[2], 64)
	check(s.t, err)
	if rows != newest {
		s.t.Errorf("%s: %d rows up to number %d", table, rows, newest)
	}
	lost, seconds = max(0, last.n-newest), max(0, last.at-at)
	s.t.Logf("%s: %d commits acknowledged, %d restored; lost: %d, %.3f s", table, last.n, newest, lost, seconds)
	return lost, seconds
}

// healthy: everything goes on where it was, and nothing runs as root that need not.
func (s *stack) healthy() {
	s.t.Helper()
	s.eventually("the stream on the new timeline", func() bool {
		return s.psql("SELECT count(*) FROM pg_stat_replication WHERE application_name = 'walden' AND state = 'streaming'") == "1"
	})
	if out := s.compose.Run("run", "--rm", "-T", "admin", "check"); !strings.Contains(out, " 0 failed") {
		s.t.Errorf("check:\n%s", out)
	}
	if out := s.engine.Docker("logs", s.container("init")); !strings.Contains(out, "Nothing is left to apply on the server") {
		s.t.Errorf("docker/initdb does not give the role all that init asks for:\n%s", out)
	}
	if id := s.engine.Docker("exec", s.container("db"), "stat", "-c", "%U %a", "/pgdata/PG_VERSION", "/pgdata"); id != "postgres 600\npostgres 700" {
		s.t.Errorf("owner and mode of what was restored: %s", id)
	}
	if user := s.engine.Docker("image", "inspect", "-f", "{{.Config.User}}", s.engine.Run()+"/walden:test"); user != "65532:65532" {
		s.t.Errorf("Walden's image runs as %q", user)
	}
	s.compose.Run("stop")
	for _, service := range []string{"stream", "backup", "db"} {
		if code := s.engine.Docker("inspect", "-f", "{{.State.ExitCode}}", s.container(service)); code != "0" {
			s.t.Errorf("stopped, %s exits with %s", service, code)
		}
	}
}

func (s *stack) eventually(what string, done func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !done(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("waited two minutes in vain for %s", what)
		}
	}
}

// count is the number in the first column of psql's table.
func count(t *testing.T, table string) int {
	t.Helper()
	m := regexp.MustCompile(`(?m)^\s*(\d+) \|`).FindStringSubmatch(table)
	if m == nil {
		t.Fatalf("no number in\n%s", table)
	}
	n, err := strconv.Atoi(m[1])
	check(t, err)
	return n
}
