//go:build unix

package integration

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/dockertest"
	"github.com/walden-pg/walden/internal/pgtest"
)

// dockerDrills is a cluster that is drilled in containers, by a user who may use the engine.
type dockerDrills struct {
	*drillSite
	engine *dockertest.Engine
	image  string
}

func newDockerDrills(t *testing.T, o siteOptions) *dockerDrills {
	engine := dockertest.Start(t)
	d := &dockerDrills{drillSite: newDrillSite(t, o), engine: engine}
	d.image = engine.Postgres(o.major)
	// The path of a test's directory can be too long for a socket's name.
	dir, err := os.MkdirTemp("/tmp", "wd")
	check(t, err)
	t.Cleanup(func() { check(t, os.RemoveAll(dir)) })
	pgtest.Chown(t, dir)
	d.scratch = dir
	d.backup()
	for i := range 5 {
		d.pg.Exec("INSERT INTO orders VALUES ($1, 'later')", 10000+i)
	}
	d.archiveAll()
	return d
}

// command is walden as the server's user, who is also in the group that the engine's socket belongs to.
func (d *dockerDrills) command(ctx context.Context, args ...string) *exec.Cmd {
	d.t.Helper()
	all := append([]string{"drill", "--json", "--scratch", d.scratch, "--runner", "docker", "--image", d.image}, args...)
	cmd := d.drillSite.command(ctx, all...)
	info, err := os.Stat("/var/run/docker.sock")
	if err == nil && cmd.SysProcAttr != nil && cmd.SysProcAttr.Credential != nil {
		cmd.SysProcAttr.Credential.Groups = append(cmd.SysProcAttr.Credential.Groups, info.Sys().(*syscall.Stat_t).Gid)
	}
	return cmd
}

func (d *dockerDrills) drill(code int, args ...string) (r drillRecord) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), commandTimeout)
	defer cancel()
	cmd := d.command(ctx, args...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		d.t.Fatal(err)
	}
	result{args: args, stdout: out.String(), stderr: said.String(), code: cmd.ProcessState.ExitCode()}.exits(d.t, code).json(d.t, &r)
	d.clean()
	if left := d.containers(); len(left) > 0 {
		d.t.Fatalf("containers are left: %v", left)
	}
	return r
}

// containers are those that work in a scratch directory.
func (d *dockerDrills) containers() []string {
	d.t.Helper()
	return strings.Fields(d.engine.Docker("ps", "--all", "--quiet", "--filter", "label=walden.scratch", "--filter", "ancestor="+d.image))
}

func (d *dockerDrills) proven(args ...string) drillRecord {
	d.t.Helper()
	r := d.drill(0, args...)
	for _, check := range []string{"plan", "restore", "stop", "transactions", "amcheck", "checksums"} {
		if r.state(check) != "passed" {
			d.t.Errorf("%s is %q: %+v", check, r.state(check), r.Checks)
		}
	}
	if r.Runner != "docker" {
		d.t.Errorf("runner %q", r.Runner)
	}
	return r
}

// TestDrillDocker drills in containers without a network: it is proven, found, killed and cleared up.
func TestDrillDocker(t *testing.T) {
	d := newDockerDrills(t, siteOptions{major: 17})
	volumes := d.engine.Docker("volume", "ls", "--quiet")
	d.proven("--assert", "SELECT count(*) = 5005 FROM orders")
	d.proven("--pick", "random-xid")
	if r := d.drill(1, "--assert", "SELECT count(*) = 1 FROM orders"); r.state("assertion") != "failed" {
		t.Errorf("%+v", r)
	}
	if r := d.drill(0, "--scenario", "bucket-down"); r.state("scenario") != "passed" {
		t.Errorf("%+v", r)
	}
	for _, after := range []string{"data/.walden-restore", "data/postmaster.pid"} {
		cmd := d.command(t.Context())
		check(t, cmd.Start())
		for {
			if list, _ := filepath.Glob(filepath.Join(d.scratch, "*", after)); len(list) > 0 {
				break
			}
			time.Sleep(time.Millisecond)
		}
		check(t, cmd.Process.Kill())
		_ = cmd.Wait() // SIGKILL is the point
		r := d.proven()
		if !slices.ContainsFunc(r.Warnings, func(w string) bool { return strings.Contains(w, "that was killed") }) {
			t.Errorf("after %s it does not tell what was left: %q", after, r.Warnings)
		}
	}
	cmd := d.command(t.Context())
	check(t, cmd.Start())
	for len(d.containers()) == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	check(t, cmd.Process.Signal(syscall.SIGTERM))
	_ = cmd.Wait() // the exit code tells
	if code := cmd.ProcessState.ExitCode(); code != 130 {
		t.Errorf("interrupted: exit code %d", code)
	}
	d.clean()
	if left := d.containers(); len(left) > 0 {
		t.Errorf("containers are left by one that was interrupted: %v", left)
	}
	if now := d.engine.Docker("volume", "ls", "--quiet"); now != volumes {
		t.Errorf("volumes are left: %q, before %q", now, volumes)
	}
}

// TestDrillDockerS3 drills in a container that reaches the bucket by the host's network.
func TestDrillDockerS3(t *testing.T) {
	d := newDockerDrills(t, siteOptions{major: 17, store: s3Store})
	d.proven("--network", "host", "--assert", "SELECT count(*) = 5005 FROM orders")
}
