//go:build unix

package dockertest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// standinLabel carries the digest of a stand-in's content.
const standinLabel = "walden.standin"

// registry is where official images come from.
const registry = "https://registry-1.docker.io/v2/"

// official returns the image under its official name if the engine has it, or
// may and can get it; else "".
func (e *Engine) official(image string) string {
	e.t.Helper()
	if e.Has(image) {
		return image
	}
	if os.Getenv("CI") == "true" || !registryAnswers() {
		return ""
	}
	if _, err := e.Try("pull", "--quiet", image); err != nil {
		e.t.Logf("dockertest: a stand-in is used: %v", err)
		return ""
	}
	return image
}

func registryAnswers() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, registry, nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close() // it is not read
	return resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusUnauthorized
}

// standin makes the image, or finds the one of another run with the same
// content, and gives it a name of this run. Each run has its own name: an image
// goes with the last of them, and nobody takes away what another one uses.
func (e *Engine) standin(name string, r *rootfs) string {
	e.t.Helper()
	if r.err != nil {
		e.t.Fatalf("dockertest: stand-in for %s: %v", name, r.err)
	}
	tag := e.run + "/" + name
	if e.Has(tag) {
		return tag
	}
	digest := r.digest()
	// What is built upon a stand-in has its label too, but another name.
	found := e.Docker("images", "--filter", "label="+standinLabel+"="+digest, "--format", "{{.Repository}}:{{.Tag}}")
	for _, other := range strings.Fields(found) {
		if run, rest, _ := strings.Cut(other, "/"); !strings.HasPrefix(run, runPrefix) || rest != name {
			continue
		}
		if _, err := e.Try("tag", other, tag); err == nil { // else it went with its last name
			return tag
		}
	}
	base := e.run + "/base-" + name
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(r.archive(pw)) }()
	err := e.feed(pr, "import", "-", base)
	_ = pr.Close() // ends the writer if the command ended first
	if err == nil {
		// Import knows no STOPSIGNAL.
		file := fmt.Sprintf("FROM %s\n%s\nLABEL %s=%s\n", base, strings.Join(r.changes, "\n"), standinLabel, digest)
		err = e.feed(strings.NewReader(file), "build", "--quiet", "-t", tag, "-")
	}
	if err != nil {
		e.t.Fatalf("dockertest: stand-in for %s: %v", name, err)
	}
	return tag
}

// feed runs the engine's client with that standard input.
func (e *Engine) feed(stdin io.Reader, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	_, err := command(ctx, stdin, "docker", args...)
	return err
}
