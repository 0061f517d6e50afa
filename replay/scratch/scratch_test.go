//go:build unix

package scratch

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// abandoned is what a process leaves that is killed: the lock is nobody's any more.
func abandoned(t *testing.T, parent, kind string) *Dir {
	t.Helper()
	d, err := Make(parent, kind)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.lock.Close(); err != nil {
		t.Fatal(err)
	}
	return d
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func TestSweepTakesWhatNobodyHolds(t *testing.T) {
	parent := t.TempDir()
	held, err := Make(parent, "drill")
	if err != nil {
		t.Fatal(err)
	}
	left := abandoned(t, parent, "drill")
	other := abandoned(t, parent, "extract")
	output := filepath.Join(t.TempDir(), ".dump"+OutputMark+"x")
	foreign := filepath.Join(parent, "walden-drill-but-not-ours") // it has no lock
	for _, dir := range []string{output, filepath.Join(left.Path(DataName), "base"), foreign} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := left.Note(output); err != nil {
		t.Fatal(err)
	}
	if !Held(held.Path("")) || Held(left.Path("")) || Held(filepath.Join(parent, "absent")) {
		t.Error("Held is wrong")
	}
	removed, err := Sweep(parent, "drill", "")
	if err != nil || len(removed) != 1 || removed[0] != left.Path("") {
		t.Fatalf("removed %v, %v", removed, err)
	}
	for path, want := range map[string]bool{left.Path(""): false, output: false, held.Path("state.json"): true, other.Path("lock"): true, foreign: true} {
		if exists(path) != want {
			t.Errorf("%s is there: %t", path, !want)
		}
	}
	if err := held.Remove(""); err != nil || exists(held.Path("")) {
		t.Errorf("remove: %v", err)
	}
	if removed, err := Sweep(parent, "drill", ""); err != nil || len(removed) > 0 {
		t.Errorf("again: %v, %v", removed, err)
	}
}

// TestNothingForeignIsRemoved: a state that names something else as its output does not get it removed.
func TestNothingForeignIsRemoved(t *testing.T) {
	parent, precious := t.TempDir(), filepath.Join(t.TempDir(), "precious")
	if err := os.Mkdir(precious, 0o700); err != nil {
		t.Fatal(err)
	}
	left := abandoned(t, parent, "drill")
	if err := left.Note(precious); err != nil {
		t.Fatal(err)
	}
	if _, err := Sweep(parent, "drill", ""); err != nil || !exists(precious) || exists(left.Path("")) {
		t.Errorf("%v", err)
	}
}

func TestProcessesThereAreEnded(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only there they can be found")
	}
	d := abandoned(t, t.TempDir(), "drill")
	if err := os.Mkdir(d.Path(DataName), 0o700); err != nil {
		t.Fatal(err)
	}
	start := func(dir string) *exec.Cmd {
		cmd := exec.Command("sleep", "600")
		cmd.Dir, cmd.SysProcAttr = dir, &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	inside, outside := start(d.Path(DataName)), start(t.TempDir())
	ended := make(chan error, 1)
	go func() { ended <- inside.Wait() }()
	if _, err := Sweep(filepath.Dir(d.Path("")), "drill", ""); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the process in the directory lives on")
	}
	if err := outside.Process.Signal(syscall.Signal(0)); err != nil {
		t.Error("a process elsewhere was ended")
	}
	_ = outside.Process.Kill() // it has served
	_ = outside.Wait()
}
