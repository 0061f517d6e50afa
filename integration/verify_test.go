//go:build unix

package integration

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// verified is what `verify --json` prints, as far as these tests read it.
type verified struct {
	Complete     bool
	Error        string
	Incarnations []struct {
		Objects map[string]struct{ Objects int }
		Read    struct{ Objects, Bytes int64 }
		Due     struct{ Objects, Bytes int64 }
		Since   *time.Time
		Record  string
	}
	Findings []struct {
		Object, Kind, Problem, Consequence string
		Harmless                           bool
		Backups                            []string
	}
	Backups []struct{ Backup, State string }
}

func (s *site) verify(code int, args ...string) verified {
	s.t.Helper()
	var v verified
	s.run(append([]string{"verify", "--json"}, args...)...).exits(s.t, code).json(s.t, &v)
	return v
}

// names reports whether an object is among the findings.
func (v verified) names(rel string) bool {
	for _, f := range v.Findings {
		if f.Object == rel {
			return true
		}
	}
	return false
}

// validation is what `list` says of a backup.
func (s *site) validation(code int, id string) (state string) {
	s.t.Helper()
	var doc struct {
		Backups []struct {
			ID         string
			Validation struct{ State string }
		}
	}
	s.run("list", "--json").exits(s.t, code).json(s.t, &doc)
	for _, b := range doc.Backups {
		if b.ID == id {
			return b.Validation.State
		}
	}
	s.t.Fatalf("list does not show backup %s", id)
	return ""
}

// allObjects are the files of the repository, relative to it.
func (s *site) allObjects() []string {
	s.t.Helper()
	var files []string
	check(s.t, filepath.WalkDir(s.objects, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.HasPrefix(d.Name(), ".") {
			rel, _ := filepath.Rel(s.objects, p)
			files = append(files, rel)
		}
		return err
	}))
	return files
}

// oneOfEach are objects of all kinds: the last of each.
func (s *site) oneOfEach() []string {
	s.t.Helper()
	byKind := map[string]string{}
	for _, rel := range s.allObjects() {
		parts := strings.Split(rel, "/")
		byKind[strings.Join(parts[min(2, len(parts)):min(3, len(parts))], "/")+filepath.Ext(rel)+strings.Trim(filepath.Base(rel), "0123456789ABCDEF.-")] = rel
	}
	var list []string
	for _, rel := range byKind {
		list = append(list, rel)
	}
	if len(list) < 12 {
		s.t.Fatalf("only %v", list)
	}
	slices.Sort(list)
	return list
}

// TestVerify verifies the repository of a real server: nothing is wrong with it; then with
// every object in turn, damaged in every way.
func TestVerify(t *testing.T) {
	s := newSite(t, siteOptions{major: 17})
	s.pg.Exec("CREATE TABLE marker (id int PRIMARY KEY, note text)")
	s.backup()
	s.mark(1)
	s.fill(2)
	id := s.backup()
	s.mark(2)
	s.archiveAll()
	s.pg.Exec("INSERT INTO marker SELECT g, repeat('x', 100) FROM generate_series(100, 2000) g")
	s.storeFragments()
	s.run("index").ok(t)

	if state := s.validation(0, id); state != "unverified" {
		t.Errorf("before: %s", state)
	}
	for range 3 {
		v := s.verify(0)
		if !v.Complete || v.Incarnations[0].Record == "" {
			t.Fatalf("%+v", v)
		}
		for _, kind := range []string{"identity", "segment", "fragment", "backup-history", "roll-up", "names", "claim", "manifest", "table", "pack"} {
			if v.Incarnations[0].Objects[kind].Objects == 0 {
				t.Errorf("the repository has no %s", kind)
			}
		}
	}
	if state := s.validation(0, id); state != "checked" {
		t.Errorf("after the quick form: %s", state)
	}
	if v := s.verify(0, "--deep"); v.Incarnations[0].Read != v.Incarnations[0].Due || v.Incarnations[0].Read.Bytes == 0 {
		t.Errorf("deep: %+v", v.Incarnations[0])
	}
	if state := s.validation(0, id); state != "sound" {
		t.Errorf("after the deep form: %s", state)
	}
	if v := s.verify(0, "--unverified-for", "7d"); v.Incarnations[0].Due.Objects != 0 {
		t.Errorf("what has just been read is read again: %+v", v.Incarnations[0])
	}
	text := s.run("verify").ok(t).stdout
	if !strings.Contains(text, "nothing is wrong") || !strings.Contains(text, id) {
		t.Errorf("the text:\n%s", text)
	}
	for _, rel := range s.oneOfEach() {
		path := filepath.Join(s.objects, rel)
		for name, wound := range wounds {
			t.Run(name+" "+kindOf(rel), func(t *testing.T) {
				defer keep(t, path)()
				wound(t, path)
				v := s.verify(1, "--deep", "--no-record")
				if !v.names(rel) && (name != "deleted" || len(v.Findings) == 0) {
					t.Errorf("%s, %s: not among %+v", rel, name, v.Findings)
				}
			})
		}
	}
	s.validated(t, id)
}

// validated damages a backup, and looks at what list says of it.
func (s *site) validated(t *testing.T, id string) {
	t.Helper()
	var pack string
	for _, rel := range s.allObjects() {
		if strings.Contains(rel, "packs/"+id) {
			pack = rel
		}
	}
	heal := keep(t, filepath.Join(s.objects, pack))
	wounds["one bit flipped"](t, filepath.Join(s.objects, pack))
	v := s.verify(1, "--deep")
	if len(v.Findings) != 1 || v.Findings[0].Object != pack || len(v.Findings[0].Backups) != 1 || v.Findings[0].Backups[0] != id {
		t.Errorf("findings %+v", v.Findings)
	}
	if state := s.validation(1, id); state != "damaged" {
		t.Errorf("with a damaged pack: %s", state)
	}
	r := s.run("verify", "--deep", "--no-record").exits(t, 1)
	if !strings.Contains(r.stdout, pack) || !strings.Contains(r.stdout, "backup "+id+" cannot be restored") {
		t.Errorf("the text:\n%s", r.stdout)
	}
	heal()
	s.verify(0, "--unverified-for", "1ns")
	if state := s.validation(0, id); state != "sound" {
		t.Errorf("healed: %s", state)
	}
}

// TestVerifyIsInterrupted stops a slow run: the same command goes on with it.
func TestVerifyIsInterrupted(t *testing.T) {
	s := newSite(t, siteOptions{major: 17})
	s.backup()
	s.archiveAll()
	total := s.verify(0, "--deep").Incarnations[0].Due.Bytes
	cmd := s.command(t.Context(), "verify", "--deep", "--max-rate", "1MB/s", "--jobs", "1")
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	check(t, cmd.Start())
	time.Sleep(2 * time.Second)
	check(t, cmd.Process.Signal(syscall.SIGINT))
	_ = cmd.Wait() // the exit code is looked at
	if code := cmd.ProcessState.ExitCode(); code != 130 || !strings.Contains(errOut.String(), "run the same command again") {
		t.Fatalf("exit code %d\n%s%s", code, out.String(), errOut.String())
	}
	v := s.verify(0, "--deep")
	if inc := v.Incarnations[0]; inc.Since == nil || inc.Due.Bytes >= total || inc.Read != inc.Due {
		t.Errorf("it was not gone on with: %+v of %d bytes", inc, total)
	}
	if inc := s.verify(0, "--deep").Incarnations[0]; inc.Since != nil || inc.Due.Bytes < total {
		t.Errorf("the next one does not begin anew: %+v", inc)
	}
	s.run("verify", "--max-rate", "fast").exits(t, 2).says(t, "50MB/s")
	s.run("verify", "--unverified-for", "soon").exits(t, 2).says(t, "7d")
	s.run("verify", "--restart").exits(t, 2)
	s.run("verify", "--incarnation", "9").exits(t, 4)

	// Without its descriptor a repository is a finding; without anything there is none.
	check(t, os.Rename(filepath.Join(s.objects, "walden.json"), filepath.Join(s.dir, "kept.json")))
	v = s.verify(1)
	if v.Complete || len(v.Findings) != 1 || v.Findings[0].Object != "walden.json" || !strings.Contains(v.Findings[0].Problem, "belong to repository") {
		t.Errorf("without walden.json: %+v", v)
	}
	check(t, os.RemoveAll(filepath.Join(s.objects, "main")))
	s.run("verify").exits(t, 4)
}

// TestVerifyWhileWorkGoesOn verifies a repository into which WAL is streamed and backups
// are taken: what is on its way is no finding.
func TestVerifyWhileWorkGoesOn(t *testing.T) {
	s := newSite(t, siteOptions{major: 17, noArchiving: true, settings: map[string]string{"max_wal_senders": "10"}})
	s.pg.Exec("CREATE TABLE marker (id int PRIMARY KEY, note text)")
	p := s.stream()
	p.attached(s.pg)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 6 {
			s.pg.Exec(fmt.Sprintf("INSERT INTO marker SELECT g, repeat('x', 500) FROM generate_series(%d, %d) g", i*5000, i*5000+4999))
			if i%2 == 1 {
				s.backup()
			}
		}
	}()
	runs := 0
	for working := true; working; runs++ {
		select {
		case <-done:
			working = false
		default:
		}
		for _, args := range [][]string{nil, {"--deep"}} {
			if v := s.verify(0, args...); len(v.Findings) > 0 || !v.Complete {
				t.Errorf("run %d: %+v", runs, v)
			}
		}
	}
	p.stop(0)
	for _, b := range s.verify(0, "--deep").Backups {
		if b.State != "sound" && b.State != "checked" {
			t.Errorf("backup %s is %s", b.Backup, b.State)
		}
	}
	t.Logf("%d runs meanwhile", runs)
}

// TestVerifyOnS3 is the same on S3, killed now and then.
func TestVerifyOnS3(t *testing.T) {
	s := newSite(t, siteOptions{major: 17, store: s3Store})
	s.backup()
	s.fill(2)
	s.run("index").ok(t)
	for _, after := range []time.Duration{50 * time.Millisecond, 300 * time.Millisecond, time.Second} {
		s.killed(after, "verify", "--deep", "--max-rate", "2MB/s")
	}
	for _, args := range [][]string{{"--deep"}, {}, {"--unverified-for", "1h"}} {
		if v := s.verify(0, args...); len(v.Findings) > 0 || !v.Complete || v.Backups[0].State != "sound" {
			t.Errorf("%v: %+v", args, v)
		}
	}
}
