//go:build unix

package dockertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	// runPrefix begins the name of a run: runPrefix PID - NUMBER.
	runPrefix = "waldentest-"
	// runLabel says which run a container, volume or network belongs to.
	runLabel = "walden.test"
	// projectLabel is compose's own name for the same.
	projectLabel = "com.docker.compose.project"
	// commandTimeout bounds one command of the engine's client.
	commandTimeout = 5 * time.Minute
	// answerTimeout bounds how long the engine is waited for.
	answerTimeout = 20 * time.Second
)

// runs counts the engines that this process was given.
var runs atomic.Int64

// Engine is a Docker engine, for one test. Its methods fail the test.
type Engine struct {
	t   testing.TB
	run string
}

// Start finds the engine, and removes what earlier runs left that were killed.
// When the test ends everything of this run is removed. Without an engine that
// answers the test is skipped.
func Start(t testing.TB) *Engine {
	t.Helper()
	if testing.Short() {
		t.Skip("it needs a Docker engine: run by the part of the tests that is not short")
	}
	ctx, cancel := context.WithTimeout(t.Context(), answerTimeout)
	defer cancel()
	if _, err := command(ctx, nil, "docker", "version", "--format", "{{.Server.Version}}"); err != nil {
		t.Skipf("no Docker engine answers: %v", err)
	}
	e := &Engine{t: t, run: fmt.Sprintf("%s%d-%d", runPrefix, os.Getpid(), runs.Add(1))}
	e.removeRuns(abandoned)
	t.Cleanup(func() {
		for _, err := range e.removeRuns(func(run string) bool { return run == e.run }) {
			t.Errorf("dockertest: left behind: %v", err)
		}
	})
	return e
}

// Run is the name of this run: a compose project's, an image's first part.
func (e *Engine) Run() string { return e.run }

// Label is an argument of docker run, docker volume create and docker network
// create that lets what they make be removed when the test ends.
func (e *Engine) Label() string { return "--label=" + runLabel + "=" + e.run }

// Docker runs the engine's client and returns what it wrote to standard output,
// without the white space at its ends; an error fails the test.
func (e *Engine) Docker(args ...string) string {
	e.t.Helper()
	out, err := e.Try(args...)
	if err != nil {
		e.t.Fatal(err)
	}
	return out
}

// Try is Docker with its error returned, which contains standard error.
func (e *Engine) Try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout) // also used when the test is over
	defer cancel()
	return command(ctx, nil, "docker", args...)
}

// Has tells whether the engine has the image.
func (e *Engine) Has(image string) bool {
	_, err := e.Try("image", "inspect", image)
	return err == nil
}

// command runs a program and returns its standard output, trimmed.
func command(ctx context.Context, stdin io.Reader, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &errOut
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(errOut.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

// abandoned says that the process of a run is gone.
func abandoned(run string) bool {
	number, _, _ := strings.Cut(strings.TrimPrefix(run, runPrefix), "-")
	pid, err := strconv.Atoi(number)
	if err != nil {
		return false
	}
	return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

// removeRuns removes everything that belongs to the chosen runs: containers
// first, which hold the rest.
func (e *Engine) removeRuns(chosen func(run string) bool) []error {
	var errs []error
	remove := func(ids []string, args ...string) {
		for _, id := range ids {
			if _, err := e.Try(append(args, id)...); err != nil && !gone(err) {
				errs = append(errs, err)
			}
		}
	}
	kinds := []struct{ list, remove []string }{
		{[]string{"ps", "-a", "--no-trunc", "--format", "{{.ID}}"}, []string{"rm", "-f", "-v"}},
		{[]string{"volume", "ls", "--format", "{{.Name}}"}, []string{"volume", "rm", "-f"}},
		{[]string{"network", "ls", "--no-trunc", "--format", "{{.ID}}"}, []string{"network", "rm"}},
	}
	for _, kind := range kinds {
		for _, label := range []string{runLabel, projectLabel} {
			ids, err := e.labelled(kind.list, label, chosen)
			if err != nil {
				errs = append(errs, err)
			}
			remove(ids, kind.remove...)
		}
	}
	ours, err := e.images(chosen)
	if err != nil {
		errs = append(errs, err)
	}
	remove(ours, "rmi")
	return errs
}

// images lists those that have a name of a chosen run, then those without a name
// that compose has built in it.
func (e *Engine) images(chosen func(run string) bool) ([]string, error) {
	named, err := e.Try("images", "--format", "{{.Repository}}:{{.Tag}}")
	if err != nil {
		return nil, err
	}
	var ours []string
	for _, name := range strings.Fields(named) {
		run, _, _ := strings.Cut(name, "/")
		if strings.HasPrefix(run, runPrefix) && chosen(run) {
			ours = append(ours, name)
		}
	}
	nameless, err := e.Try("images", "--quiet", "--no-trunc", "--filter", "dangling=true", "--filter", "label="+projectLabel)
	if err != nil {
		return ours, err
	}
	for _, id := range strings.Fields(nameless) {
		run, err := e.Try("image", "inspect", "--format", fmt.Sprintf("{{index .Config.Labels %q}}", projectLabel), id)
		if err == nil && strings.HasPrefix(run, runPrefix) && chosen(run) { // else it has gone meanwhile
			ours = append(ours, id)
		}
	}
	return ours, nil
}

// labelled lists what has a label whose value is a chosen run.
func (e *Engine) labelled(list []string, label string, chosen func(run string) bool) ([]string, error) {
	args := append([]string{}, list...)
	args[len(args)-1] += fmt.Sprintf("\t{{.Label %q}}", label)
	out, err := e.Try(append(args, "--filter", "label="+label)...)
	if err != nil {
		return nil, err
	}
	var ids []string
	for line := range strings.Lines(out) {
		id, run, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if strings.HasPrefix(run, runPrefix) && chosen(run) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// gone says that what was to be removed is not there any more: two processes
// may clean up after the same third one.
func gone(err error) bool {
	for _, s := range []string{"No such", "no such", "not found", "already in progress"} {
		if strings.Contains(err.Error(), s) {
			return true
		}
	}
	return false
}
