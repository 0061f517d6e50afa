package restore

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walden-pg/walden/replay/recovery"
)

// A restore that was killed when everything was done, but before it could say
// so, succeeds when it is called again; any other call is refused.
func TestRepeat(t *testing.T) {
	fo := fixtureOptions{}
	f := newFixture(t, fo)
	f.publish(fo)
	o := f.options(t)
	first, err := f.restore(t, o)
	if err != nil {
		t.Fatal(err)
	}
	again, err := f.restore(t, o)
	if err != nil {
		t.Fatalf("the same call again: %v", err)
	}
	if again.Files != first.Files || again.Bytes != first.Bytes || again.StartCommand != first.StartCommand || again.ConfigDirectory != first.ConfigDirectory {
		t.Errorf("the same call again says %+v, at first %+v", again, first)
	}
	if len(again.Warnings) != len(first.Warnings)+1 || !strings.Contains(again.Warnings[len(again.Warnings)-1], "earlier run") {
		t.Errorf("warnings: %q", again.Warnings)
	}
	f.check(t, o)

	refused := func(what string, o Options) {
		t.Helper()
		if _, err := f.restore(t, o); err == nil {
			t.Errorf("%s: the directory was taken for this restore's", what)
		}
	}
	other := o
	other.Action = ActionShutdown
	refused("another action", other)
	other = o
	other.Tablespaces = map[string]string{"/srv/ts": o.Tablespaces["/srv/ts"] + "2"}
	refused("another place for a tablespace", other)
	if err := os.WriteFile(filepath.Join(o.To, "postmaster.opts"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused("a server was there", o)

	// Its recovery was cut off, and this call goes on with it.
	if err := os.WriteFile(filepath.Join(o.To, recovery.UnfinishedName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused("a server was there, and this call starts none", o)
	o.Resume = true
	if _, err := f.restore(t, o); err != nil {
		t.Errorf("recovery was cut off: %v", err)
	}
	other = o
	other.Action = ActionShutdown
	refused("another action, after recovery was cut off", other)
}
