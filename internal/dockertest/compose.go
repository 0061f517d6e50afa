//go:build unix

package dockertest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Compose runs one project of docker compose: everything in it goes when the
// test ends.
type Compose struct {
	e       *Engine
	program []string
	dir     string
	env     []string
}

// Compose returns a project with the compose file of a directory. env are
// variables, NAME=VALUE, for that file. The project has the name of the run. The
// plugin (docker compose) is preferred to the program of old (docker-compose);
// with neither the test is skipped.
func (e *Engine) Compose(dir string, env ...string) *Compose {
	e.t.Helper()
	c := &Compose{e: e, dir: dir, env: append([]string{"COMPOSE_PROJECT_NAME=" + e.run}, env...)}
	for _, program := range [][]string{{"docker", "compose"}, {"docker-compose"}} {
		ctx, cancel := context.WithTimeout(e.t.Context(), answerTimeout)
		_, err := command(ctx, nil, program[0], append(program[1:], "version")...)
		cancel()
		if err == nil {
			c.program = program
			return c
		}
	}
	e.t.Skip("a Docker engine answers, but there is neither docker compose nor docker-compose")
	return nil
}

// Run runs a command of compose, "up" or "exec", and returns what it wrote to
// standard output; an error fails the test.
func (c *Compose) Run(args ...string) string {
	c.e.t.Helper()
	out, err := c.Try(args...)
	if err != nil {
		c.e.t.Fatal(err)
	}
	return out
}

// Try is Run with its error returned, which contains standard error.
func (c *Compose) Try(args ...string) (string, error) {
	return c.command(append(append([]string{}, c.program...), args...))
}

// Shell runs a line of a shell in the project's directory and with its
// variables, as a person would; "docker compose" in it is whichever there is.
func (c *Compose) Shell(line string) (string, error) {
	line = strings.ReplaceAll(line, "docker compose", strings.Join(c.program, " "))
	return c.command([]string{"sh", "-c", line})
}

func (c *Compose) command(args []string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.Env = c.dir, append(os.Environ(), c.env...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return out.String(), fmt.Errorf("%s: %w\n%s%s", strings.Join(args, " "), err, out.String(), errOut.String())
	}
	return out.String(), nil
}
