//go:build unix

package drill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/walden-pg/walden/replay/recovery"
	"github.com/walden-pg/walden/replay/scratch"
)

// containers runs the programs of PostgreSQL in containers: each program in bin is a script that
// does. Scratch lies at the same path inside, so that recovery, which reads the log and the socket there, need not know.
type containers struct {
	*Docker
	dir   string // of scratch
	label string
	bin   string
}

// serverPrograms are run as the owner of the files, in a container of their own.
var serverPrograms = []string{"postgres", "pg_amcheck", "pg_checksums"}

// maxContainerScratch leaves room for the socket's name.
const maxContainerScratch = 70

// dockerError is a failure of the docker command.
type dockerError struct {
	doing string
	said  string
	err   error
	hint  string
}

func (e *dockerError) Error() string {
	s := "docker: " + e.doing + ": " + e.err.Error()
	if e.said != "" {
		s += ": " + e.said
	}
	return s
}

func (e *dockerError) Unwrap() error { return e.err }
func (e *dockerError) Hint() string  { return e.hint }

// docker runs the command and returns what it prints.
func docker(ctx context.Context, doing, hint string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "", &dockerError{doing, strings.TrimSpace(said.String()), err, hint}
	}
	return strings.TrimSpace(string(out)), nil
}

// readyDocker sees to it that the engine answers and has the image.
func (d *drill) readyDocker(ctx context.Context) error {
	if _, err := docker(ctx, "ask the engine", "install docker, start its engine, and let this user use it; or drill with --runner local",
		"version", "--format", "{{.Server.Version}}"); err != nil {
		return err
	}
	d.record.Runner = "docker"
	if d.Docker.Image == "" {
		d.Docker.Image = "postgres:" + strconv.Itoa(d.manifest.Major)
	}
	d.record.Image = d.Docker.Image
	if _, err := docker(ctx, "look for the image", "", "image", "inspect", "--format", "{{.Id}}", d.Docker.Image); err != nil {
		if _, err := docker(ctx, "fetch the image "+d.Docker.Image, "name one that the engine has with --image", "pull", "--quiet", d.Docker.Image); err != nil {
			return err
		}
	}
	return d.checkImage(ctx)
}

// checkImage asks the image for its PostgreSQL and, as root, for the user who runs it.
func (d *drill) checkImage(ctx context.Context) error {
	hint := fmt.Sprintf("name an image of PostgreSQL %d with --image", d.manifest.Major)
	run := []string{"run", "--rm", "--network=none"}
	said, err := docker(ctx, "ask image "+d.Docker.Image+" for its server", hint, append(run, "--entrypoint=postgres", d.Docker.Image, "--version")...)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(said, fmt.Sprintf("postgres (PostgreSQL) %d", d.manifest.Major)) {
		return &dockerError{"ask image " + d.Docker.Image + " for its server", "", fmt.Errorf("it is %.80s, and the backup is of PostgreSQL %d", said, d.manifest.Major), hint}
	}
	if os.Geteuid() == 0 && d.Docker.Owner == "" {
		// Its own user shall own the files.
		d.Docker.Owner, err = docker(ctx, "ask image "+d.Docker.Image+" for its user postgres", hint, append(run, "--entrypoint=id", d.Docker.Image, "-u", "postgres")...)
	}
	return err
}

// enclose prepares the scripts in scratch, and says to scratch what runs outside of it.
func (d *drill) enclose() error {
	c := &containers{Docker: d.Docker, dir: d.scratch.Path(""), bin: d.scratch.Path("bin")}
	if len(c.dir) > maxContainerScratch || strings.ContainsAny(c.dir, ":,") {
		return fmt.Errorf("drill: scratch %s: for containers its path must have at most %d bytes, and neither colons nor commas", c.dir, maxContainerScratch)
	}
	c.label = scratch.ContainerLabel + "=" + filepath.Base(c.dir)
	if err := d.scratch.NoteContainers(); err != nil {
		return err
	}
	if err := os.Mkdir(c.bin, 0o755); err != nil {
		return fmt.Errorf("drill: %w", err)
	}
	if err := c.write(""); err != nil {
		return err
	}
	d.containers = c
	return nil
}

// settle makes the scripts run as the owner of the restored directory.
func (c *containers) settle(directory string) error {
	info, err := os.Stat(directory)
	if err != nil {
		return fmt.Errorf("drill: %w", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("drill: the owner of the restored directory cannot be found out")
	}
	return c.write(fmt.Sprintf("%d:%d", st.Uid, st.Gid))
}

// write writes the scripts. user is who runs what is in the containers; "": the image's.
func (c *containers) write(user string) error {
	args := []string{"--rm", "--label=" + c.label, "--cap-drop=ALL", "--security-opt=no-new-privileges", "--read-only", "--tmpfs=/tmp",
		"--shm-size=256m", "--pids-limit=512", "--memory=" + c.Memory, "--cpus=" + c.CPUs, "--network=" + c.Network,
		"--volume=" + c.dir + ":" + c.dir, "--workdir=" + c.dir, "--env=LC_ALL=C", "--env=PGOPTIONS"}
	if user != "" {
		args = append(args, "--user="+user)
	}
	for _, path := range c.Mounts {
		args = append(args, "--volume="+path+":"+path+":ro")
	}
	for _, name := range c.Environment {
		args = append(args, "--env="+name)
	}
	for _, program := range serverPrograms {
		line := recovery.ShellLine(append([]string{"docker", "run"}, append(args, "--entrypoint="+program, c.Image)...)...)
		if err := c.script(program, "exec "+line+` "$@"`); err != nil {
			return err
		}
	}
	// The server is alone in its container: what pg_ctl would find in its pid file means nothing out here.
	list := "docker ps --quiet --filter " + recovery.ShellLine("label="+c.label)
	return c.script("pg_ctl", `signal=INT
for word; do [ "$word" != immediate ] || signal=QUIT; done
for id in $(`+list+`); do docker kill --signal "$signal" "$id" >/dev/null || exit 1; done
n=0
while [ -n "$(`+list+`)" ]; do n=$((n + 1)); [ $n -lt 600 ] || exit 1; sleep 0.1; done`)
}

func (c *containers) script(name, body string) error {
	path := filepath.Join(c.bin, name)
	err := os.WriteFile(path+".tmp", []byte("#!/bin/sh\n"+body+"\n"), 0o755)
	if err == nil {
		err = os.Rename(path+".tmp", path)
	}
	if err != nil {
		return fmt.Errorf("drill: %w", err)
	}
	return nil
}
