package restore

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/storage/frame"
)

func TestRestore(t *testing.T) {
	cases := map[string]fixtureOptions{
		"one pack":        {codec: frame.CodecLZ4},
		"many packs":      {codec: frame.CodecZstd, packSize: 64 << 10, shardSize: 3},
		"scattered":       {codec: frame.CodecNone, packSize: 256 << 10, pieceSize: 8192, shuffle: true, shardSize: 7},
		"config and 0750": {codec: frame.CodecLZ4, config: true, mode750: true},
	}
	for name, fo := range cases {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, fo)
			for i, size := range []int{1<<20 - 1, 1 << 20, 1<<20 + 1, 3<<20 + 12345} {
				f.add(basebackup.FileEntry{Path: "base/5/" + string(rune('a'+i)), Kind: basebackup.KindFile, Mode: 0o600}, random(uint64(10+i), size))
			}
			f.publish(fo)
			o := f.options(t)
			var last Progress
			o.Progress = func(p Progress) { last = p }
			got, err := f.restore(t, o)
			if err != nil {
				t.Fatal(err)
			}
			f.check(t, o)
			if got.Files != f.manifest.Files || got.Bytes != f.manifest.Bytes || last.Files != got.Files || last.Bytes != got.Bytes || last.TotalBytes != got.Bytes {
				t.Errorf("result %+v, last progress %+v", got, last)
			}
			if mode := stat(t, o.To).Mode().Perm(); mode != 0o700 != fo.mode750 {
				t.Errorf("the data directory has mode %v", mode)
			}
			for _, name := range append(standardDirectories, "pg_wal/summaries") {
				if !stat(t, filepath.Join(o.To, name)).IsDir() {
					t.Errorf("%s is missing", name)
				}
			}
			if link, err := os.Readlink(filepath.Join(o.To, "pg_tblspc", "16400")); err != nil || link != o.Tablespaces["/srv/ts"] {
				t.Errorf("the tablespace's link leads to %q (%v)", link, err)
			}
			if fo.config {
				checkConfig(t, o, got)
			} else if got.ConfigDirectory != "" || got.StartCommand != "pg_ctl -D "+o.To+" -l "+o.To+".log start" {
				t.Errorf("%+v", got)
			}
		})
	}
}

func stat(t *testing.T, path string) os.FileInfo {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func checkConfig(t *testing.T, o Options, got *Result) {
	t.Helper()
	dir := o.To + ".config"
	if got.ConfigDirectory != dir {
		t.Errorf("configuration in %q", got.ConfigDirectory)
	}
	for name, text := range map[string]string{
		"postgresql.conf": "/etc/pg/main.conf", "conf.d/more.conf": "/etc/pg/conf.d/more.conf",
		"pg_hba.conf": "/etc/hba/pg_hba.conf", "other/opt/shared.conf": "/opt/shared.conf",
	} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !strings.HasPrefix(string(b), "# "+text+"\n") {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	// A directory that is included must be there, even an empty one.
	if info, err := os.Stat(filepath.Join(dir, "empty.d")); err != nil || !info.IsDir() {
		t.Errorf("the empty directory that is included: %v", err)
	}
	for _, path := range []string{dir + "/etc", o.To + "/../above"} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s was made", path)
		}
	}
	for _, want := range []string{"config_file=" + dir, "hba_file=" + dir, "data_directory=" + o.To, "external_pid_file=" + o.To + ".pid"} {
		if !strings.Contains(got.StartCommand, want) {
			t.Errorf("%q is missing in %s", want, got.StartCommand)
		}
	}
	if len(got.Warnings) == 0 {
		t.Error("nothing is said of the configuration files")
	}
}

// A file that is longer than a run is read by several at once.
func TestLongFile(t *testing.T) {
	if testing.Short() {
		t.Skip("every step in turn: run by the part of the tests that is not short")
	}
	fo := fixtureOptions{codec: frame.CodecLZ4}
	f := newFixture(t, fo)
	f.add(basebackup.FileEntry{Path: "base/5/long", Kind: basebackup.KindFile, Mode: 0o600}, random(20, 2*runLength+runLength/2+77))
	f.publish(fo)
	o := f.options(t)
	o.Jobs = 4
	if _, err := f.restore(t, o); err != nil {
		t.Fatal(err)
	}
	f.check(t, o)
}

func TestSettings(t *testing.T) {
	fo := fixtureOptions{}
	f := newFixture(t, fo)
	f.publish(fo)
	o := f.options(t)
	o.RestoreCommand = `C:\walden wal-get 'it''s' %f "%p"`
	o.Set = map[string]string{"archive_mode": "on", "my.own": "a\nb"}
	got, err := f.restore(t, o)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(o.To, "postgresql.auto.conf"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	if !strings.HasPrefix(string(text), "# Do not edit\nrecovery_target_name = 'older'\narchive_mode = 'always'\n\n# Written by walden on ") {
		t.Errorf("the beginning is not what it was:\n%s", text)
	}
	last := map[string]string{}
	for _, l := range lines {
		if name, value, ok := strings.Cut(l, " = "); ok {
			last[name] = value
		}
	}
	for name, want := range map[string]string{
		"restore_command": `'C:\\walden wal-get ''it''''s'' %f "%p"'`, "recovery_target_time": "'2026-11-22 22:00:00+00'",
		"recovery_target_name": "''", "recovery_target": "''", "recovery_target_action": "'pause'", "recovery_target_timeline": "'1'",
		"archive_mode": "'on'", "archive_command": "''", "archive_library": "''", "synchronous_standby_names": "''",
		"primary_conninfo": "''", "primary_slot_name": "''", "archive_cleanup_command": "''", "recovery_min_apply_delay": "'0'", "my.own": `'a\nb'`,
	} {
		if last[name] != want {
			t.Errorf("%s = %s, want %s", name, last[name], want)
		}
	}
	// The one that is set comes after those that are emptied.
	names := make([]string, 0, len(got.Settings))
	for _, l := range got.Settings {
		names = append(names, l.Name)
	}
	for _, name := range targetSettings {
		if at := slices.Index(names, name); at > slices.Index(names, "recovery_target_time") || at != lastIndex(names, name) {
			t.Errorf("%s is at %d of %v", name, at, names)
		}
	}
	if slices.Contains(got.Cleared, "archive_mode") || !slices.Contains(got.Cleared, "primary_conninfo") {
		t.Errorf("cleared: %v", got.Cleared)
	}
}

func lastIndex(names []string, name string) int {
	for i := len(names) - 1; i >= 0; i-- {
		if names[i] == name {
			return i
		}
	}
	return -1
}

func TestStandbyAndKeepArchiving(t *testing.T) {
	fo := fixtureOptions{}
	f := newFixture(t, fo)
	f.publish(fo)
	o := f.options(t)
	o.Standby, o.KeepArchiving = true, true
	got, err := f.restore(t, o)
	if err != nil {
		t.Fatal(err)
	}
	if names := namesIn(t, o.To); !slices.Contains(names, "standby.signal") || slices.Contains(names, "recovery.signal") {
		t.Errorf("%v", names)
	}
	for _, s := range got.Settings {
		if strings.HasPrefix(s.Name, "archive_") && s.Name != "archive_cleanup_command" || s.Name == "recovery_target_action" || s.Name == "recovery_min_apply_delay" ||
			s.Name == "recovery_target_time" && s.Value != "" {
			t.Errorf("%s = %s", s.Name, s.Value)
		}
	}
}

func TestRefusedOptions(t *testing.T) {
	fo := fixtureOptions{}
	f := newFixture(t, fo)
	f.publish(fo)
	cases := map[string]func(*Options){
		"zero byte":              func(o *Options) { o.RestoreCommand = "a\x00b" },
		"restore_command":        func(o *Options) { o.RestoreCommand = " " },
		"unknown action":         func(o *Options) { o.Action = "stop" },
		"not the name":           func(o *Options) { o.Set = map[string]string{"a b": ""} },
		"is the plan's":          func(o *Options) { o.Set = map[string]string{"Recovery_target_xid": "7"} },
		"no effect":              func(o *Options) { o.Set = map[string]string{"data_directory": "/"} },
		"no tablespace":          func(o *Options) { o.Tablespaces["/nowhere"] = "/tmp/x" },
		"two places":             func(o *Options) { o.Tablespaces["/srv/ts/"] = "/tmp/x" },
		"line break":             func(o *Options) { o.To += "\nx" },
		"absolute":               func(o *Options) { o.Tablespaces["/srv/ts"] = "relative" },
		"not apart from":         func(o *Options) { o.Tablespaces["/srv/ts"] = o.To + "/pg_ts" },
		"not apart":              func(o *Options) { o.Tablespaces["/srv/ts"] = o.To },
		"parent":                 func(o *Options) { o.To += "/below" },
		"owner":                  func(o *Options) { o.Owner = "no-such-user-at-all" },
		"no target directory":    func(o *Options) { o.To = "" },
		"--tablespace /srv/ts=N": func(o *Options) { o.Tablespaces = map[string]string{"/srv/ts": "/usr"} },
	}
	for want, change := range cases {
		t.Run(want, func(t *testing.T) {
			o := f.options(t)
			change(&o)
			_, err := f.restore(t, o)
			text := ""
			if err != nil {
				text = err.Error()
			}
			var refused *TargetError
			if errors.As(err, &refused) {
				text += " " + refused.Hint()
			}
			if err == nil || !strings.Contains(text, want) {
				t.Errorf("error %q", text)
			}
			if o.To != "" {
				if _, err := os.Stat(o.To); err == nil {
					t.Error("something was made")
				}
			}
		})
	}
}

func TestRefusedDirectories(t *testing.T) {
	fo := fixtureOptions{}
	f := newFixture(t, fo)
	f.publish(fo)
	file := func(name, text string) func(*testing.T, Options) {
		return func(t *testing.T, o Options) {
			dir := o.To
			if strings.HasPrefix(name, "ts/") {
				dir = filepath.Dir(o.To)
			}
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	both := func(a, b func(*testing.T, Options)) func(*testing.T, Options) {
		return func(t *testing.T, o Options) { a(t, o); b(t, o) }
	}
	self := "\n"
	cases := map[string]func(*testing.T, Options){
		"holds precious":                  file("precious", "x"),
		"PostgreSQL 17 cluster":           file("PG_VERSION", "17\n"),
		"server is running":               both(file("PG_VERSION", "17\n"), file("postmaster.pid", "PID"+self)),
		"tablespace 16400":                file("ts/precious", "x"),
		"server was started":              both(file(MarkerName, `{"restore":"x"}`), file("postmaster.opts", "")),
		"moved or copied":                 both(file(MarkerName, `{"restore":"x","directory":"/elsewhere"}`), file("PG_VERSION", "17\n")),
		"the mark of a restore cannot be": both(file(MarkerName, `{"rest`), file("PG_VERSION", "17\n")),
		"is not a directory": func(t *testing.T, o Options) {
			if err := os.WriteFile(o.To, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		},
	}
	for want, make := range cases {
		t.Run(want, func(t *testing.T) {
			o := f.options(t)
			make(t, o)
			fixPID(t, o.To)
			before := snapshot(t, filepath.Dir(o.To))
			_, err := f.restore(t, o)
			var refused *TargetError
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v", err)
			}
			if after := snapshot(t, filepath.Dir(o.To)); !slices.Equal(before, after) {
				t.Errorf("changed from %q to %q", before, after)
			}
		})
	}
}

// fixPID writes our own process id where a test wants that of a living server.
func fixPID(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, "postmaster.pid")
	if _, err := os.Stat(path); err == nil {
		if err := os.WriteFile(path, []byte(strings.Join([]string{itoa(os.Getpid()), dir}, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func snapshot(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		all = append(all, path+" "+info.Mode().String()+" "+itoa(int(info.Size())))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestNoSpace(t *testing.T) {
	fo := fixtureOptions{}
	f := newFixture(t, fo)
	f.publish(fo)
	f.manifest.Bytes = 1 << 60
	f.writeTables(0)
	o := f.options(t)
	_, err := f.restore(t, o)
	var refused *TargetError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "free") {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(o.To); err == nil {
		t.Error("something was made")
	}
}

func TestCancelled(t *testing.T) {
	fo := fixtureOptions{packSize: 64 << 10}
	f := newFixture(t, fo)
	f.add(basebackup.FileEntry{Path: "base/5/long", Kind: basebackup.KindFile, Mode: 0o600}, random(20, 4<<20))
	f.publish(fo)
	o := f.options(t)
	ctx, cancel := context.WithCancel(t.Context())
	o.Progress = func(Progress) { cancel() }
	if _, err := run(ctx, f.repo, f.plan(), o, tempDisk{}); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	unstartable(t, o.To)
	o.Progress = nil
	if _, err := f.restore(t, o); err != nil {
		t.Fatal(err)
	}
	f.check(t, o)
}

// A backup that holds a tablespace_map must not lead the server to the places
// of the cluster that it came from.
func TestTablespaceMap(t *testing.T) {
	fo := fixtureOptions{}
	f := newFixture(t, fo)
	f.add(basebackup.FileEntry{Path: "tablespace_map", Kind: basebackup.KindFile, Mode: 0o600}, []byte("16400 /srv/ts\n"))
	f.publish(fo)
	o := f.options(t)
	if _, err := f.restore(t, o); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(o.To, "tablespace_map")); err != nil || string(b) != "16400 "+o.Tablespaces["/srv/ts"]+"\n" {
		t.Errorf("%q, %v", b, err)
	}
}

// BenchmarkRestore writes 256 MiB in large files, or 2000 small files, and
// waits for the disk as a real restore does.
func BenchmarkRestore(b *testing.B) {
	for name, shape := range map[string]struct{ files, size int }{"large": {8, 32 << 20}, "small": {2000, 16 << 10}} {
		b.Run(name, func(b *testing.B) {
			fo := fixtureOptions{codec: frame.CodecLZ4, packSize: 64 << 20}
			f := newFixture(b, fo)
			page := random(1, 1<<20)
			for i := range shape.files {
				content := make([]byte, 0, shape.size)
				for len(content) < shape.size {
					content = append(content, page[:min(len(page), shape.size-len(content))]...)
				}
				f.add(basebackup.FileEntry{Path: "base/5/" + itoa(i), Kind: basebackup.KindFile, Mode: 0o600}, content)
			}
			f.publish(fo)
			b.SetBytes(f.manifest.Bytes)
			b.ReportAllocs()
			for b.Loop() {
				o := f.options(b)
				if _, err := Run(b.Context(), f.repo, f.plan(), o); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := os.RemoveAll(filepath.Dir(o.To)); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

func TestInsideACluster(t *testing.T) {
	fo := fixtureOptions{}
	f := newFixture(t, fo)
	f.publish(fo)
	o := f.options(t)
	if _, err := f.restore(t, o); err != nil {
		t.Fatal(err)
	}
	second := f.options(t)
	second.To = filepath.Join(o.To, "base", "restored")
	other := f.options(t)
	other.Tablespaces = map[string]string{"/srv/ts": filepath.Join(o.To, "ts")}
	for _, o := range []Options{second, other} {
		_, err := f.restore(t, o)
		var refused *TargetError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), "inside the data directory") {
			t.Errorf("to %s, %v: error %v", o.To, o.Tablespaces, err)
		}
	}
}
