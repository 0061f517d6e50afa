package s3test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// StartProcess starts a versitygw process for this test. The binary is the one
// that WALDEN_VERSITYGW names, or bin/versitygw in WALDEN_TOOLS or, without
// that, in .tools at the module's root.
// Without it the test is skipped, on CI (CI=true) it fails. With -short it is
// skipped, as whatever needs a server is.
func StartProcess(t testing.TB) *Server {
	t.Helper()
	if testing.Short() {
		t.Skip("it needs a server: run by the part of the tests that is not short")
	}
	path := Program(t)
	address, release := freeAddress(t)
	t.Cleanup(release)
	p := &process{path: path, address: address, data: t.TempDir(), versions: t.TempDir()}
	p.start(t)
	t.Cleanup(p.kill)
	s := &Server{Endpoint: "http://" + p.address, AccessKey: accessKey, SecretKey: secretKey, process: p}
	s.Bucket = s.NewBucket(t)
	return s
}

// Program returns the path of versitygw: see [StartProcess].
func Program(t testing.TB) string {
	t.Helper()
	path, err := binary()
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return path
}

// startDirectory is where the test process began: the gateway that runs within
// it (StartEmbedded) changes the working directory to its data.
var startDirectory, errStartDirectory = os.Getwd()

// binary finds versitygw.
func binary() (string, error) {
	if path := os.Getenv("WALDEN_VERSITYGW"); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("s3test: WALDEN_VERSITYGW: %w", err)
		}
		return path, nil
	}
	tools, err := toolsDirectory()
	if err != nil {
		return "", fmt.Errorf("s3test: look for versitygw: %w", err)
	}
	path := filepath.Join(tools, "bin", "versitygw")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("s3test: no S3 server to test against: neither WALDEN_VERSITYGW nor %w", err)
	}
	return path, nil
}

// toolsDirectory is where the Makefile puts what it builds for the tests.
func toolsDirectory() (string, error) {
	if dir := os.Getenv("WALDEN_TOOLS"); dir != "" {
		return dir, nil
	}
	dir, err := startDirectory, errStartDirectory
	for err == nil {
		if _, statErr := os.Stat(filepath.Join(dir, "go.mod")); statErr == nil {
			return filepath.Join(dir, ".tools"), nil
		}
		if dir == filepath.Dir(dir) {
			err = errors.New("no go.mod above the working directory")
		}
		dir = filepath.Dir(dir)
	}
	return "", err
}

// process is a versitygw that can be killed and started again.
type process struct {
	path, address  string
	data, versions string

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan error
}

func (p *process) start(t testing.TB) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		t.Fatal("s3test: the server runs already")
	}
	var output bytes.Buffer
	cmd := exec.Command(p.path, "--port", p.address, "--quiet", "posix", "--versioning-dir", p.versions, p.data)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+accessKey, "ROOT_SECRET_KEY="+secretKey)
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatalf("s3test: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	p.cmd, p.done = cmd, done
	failed := make(chan error, 1)
	go func() {
		err := <-done
		done <- err
		failed <- fmt.Errorf("%w: %s", err, output.String())
	}()
	if err := await(p.address, failed); err != nil {
		t.Fatal(err)
	}
}

// kill ends the process at once, and waits for its end.
func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	<-p.done
	p.cmd = nil
}
