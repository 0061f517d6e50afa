package protocol_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/basebackup/protocol"
	"github.com/walden-pg/walden/internal/pgtest/fakepg"
	"github.com/walden-pg/walden/internal/server"
)

// entry is what a scripted server sends and what a sink receives.
type entry struct {
	path    string
	content []byte
	target  string
	dir     bool
}

func file(path, content string) entry { return entry{path: path, content: []byte(content)} }

// archiveOf makes a tar as PostgreSQL does; without its two zero blocks if cut.
func archiveOf(t *testing.T, cut bool, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.path, Mode: 0o600, ModTime: time.Unix(1700000000, 0), Format: tar.FormatUSTAR, Typeflag: tar.TypeReg}
		switch {
		case e.dir:
			h.Typeflag, h.Name, h.Mode = tar.TypeDir, e.path+"/", 0o700
		case e.target != "":
			h.Typeflag, h.Name, h.Linkname = tar.TypeSymlink, e.path+"/", e.target
		default:
			h.Size = int64(len(e.content))
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if cut {
		return b.Bytes()[:b.Len()-1024]
	}
	return b.Bytes()
}

// sink records what it is given.
type sink struct {
	start    basebackup.StartInfo
	end      *basebackup.EndInfo
	entries  []entry
	modes    []uint32
	manifest string
	received int64
	failAt   string // a file whose storing fails
}

var errSink = errors.New("no space left in the repository")

func (s *sink) Begin(i basebackup.StartInfo) error { s.start = i; return nil }

func (s *sink) Directory(h basebackup.Header) error {
	s.entries = append(s.entries, entry{path: h.Path, dir: true})
	s.modes = append(s.modes, h.Mode)
	return nil
}

func (s *sink) File(h basebackup.Header, r io.Reader) error {
	if h.Path == s.failAt {
		return errSink
	}
	b, err := io.ReadAll(r)
	s.entries = append(s.entries, entry{path: h.Path, content: b})
	s.modes = append(s.modes, h.Mode)
	return err
}

func (s *sink) Symlink(h basebackup.Header) error {
	s.entries = append(s.entries, entry{path: h.Path, target: h.Target})
	s.modes = append(s.modes, h.Mode)
	return nil
}

func (s *sink) Manifest(r io.Reader) error {
	b, err := io.ReadAll(r)
	s.manifest = string(b)
	return err
}

func (s *sink) Progress(n int64) { s.received = n }

func (s *sink) End(e basebackup.EndInfo) error { s.end = &e; return nil }

// script is a server that sends one backup.
type script struct {
	version int
	main    []byte
	space   []byte // of tablespace 16400; nil: there is none
	// cutAfter closes the connection after so many messages with data; 0: never.
	cutAfter int
	// end is called in place of the regular end.
	end func(c *fakepg.Conn)
	// rename replaces names of archives (15 and later).
	rename string
	chunk  int
}

const manifestText = "{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n…"

func (s *script) serve(t *testing.T) *fakepg.Server {
	if s.chunk == 0 {
		s.chunk = 777
	}
	return fakepg.New(t, func(c *fakepg.Conn, sql string) bool {
		switch {
		case sql == "IDENTIFY_SYSTEM":
			c.Rows("systemid timeline xlogpos dbname", []any{"7345678901234567890", 3, "0/3000000", nil})
		case sql == "SHOW server_version_num":
			c.Rows("server_version_num", []any{s.version})
		case sql == "SHOW wal_segment_size":
			c.Rows("wal_segment_size", []any{"16MB"})
		case sql == "SHOW archive_mode":
			c.Rows("archive_mode", []any{"on"})
		case strings.HasPrefix(sql, "BASE_BACKUP"):
			return s.backup(c)
		default:
			c.Error("42601", "syntax error: "+sql)
			return true
		}
		c.Ready()
		return true
	})
}

func (s *script) backup(c *fakepg.Conn) bool {
	c.Rows("recptr tli", []any{"0/2000028", 3})
	if s.space == nil {
		c.Rows("spcoid spclocation size", []any{nil, nil, 4000})
	} else {
		c.Rows("spcoid spclocation size", []any{"16400", "/mnt/fast", 1000}, []any{nil, nil, 4000})
	}
	sent := 0
	data := func(prefix string, b []byte) bool {
		for len(b) > 0 {
			n := min(s.chunk, len(b))
			c.Data(append([]byte(prefix), b[:n]...))
			b = b[n:]
			if sent++; sent == s.cutAfter {
				return false
			}
		}
		return true
	}
	if s.version < 150000 {
		for _, b := range [][]byte{s.space, s.main, []byte(manifestText)} {
			if b == nil {
				continue
			}
			c.Send(&pgproto3.CopyOutResponse{})
			if !data("", b) {
				return false
			}
			c.Send(&pgproto3.CopyDone{})
		}
	} else {
		c.Send(&pgproto3.CopyOutResponse{})
		for _, a := range []struct {
			name, location string
			content        []byte
		}{{"16400.tar", "/mnt/fast", s.space}, {"base.tar", "", s.main}} {
			if a.content == nil {
				continue
			}
			if s.rename != "" {
				a.name = s.rename
			}
			c.Data([]byte("n" + a.name + "\x00" + a.location + "\x00"))
			if !data("d", a.content) {
				return false
			}
			c.Data(append([]byte{'p'}, make([]byte, 8)...))
		}
		c.Data([]byte("m"))
		if !data("d", []byte(manifestText)) {
			return false
		}
		c.Send(&pgproto3.CopyDone{})
	}
	if s.end != nil {
		s.end(c)
		return true
	}
	c.Rows("recptr tli", []any{"0/2000100", 3})
	c.Send(&pgproto3.CommandComplete{CommandTag: []byte("BASE_BACKUP")})
	c.Ready()
	return true
}

func runBackup(t *testing.T, server *fakepg.Server, to basebackup.Sink) error {
	t.Helper()
	s, err := protocol.New(protocol.Options{Conninfo: server.Conninfo()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return s.Run(ctx, basebackup.SourceOptions{Label: "it's mine", Checkpoint: basebackup.CheckpointFast, MaxRate: 1024}, to)
}

func mainEntries() []entry {
	return []entry{
		file("backup_label", "START WAL LOCATION…"),
		{path: "base", dir: true},
		{path: "base/1", dir: true},
		{path: "./pg_wal/archive_status", dir: true},
		file("base/1/112", strings.Repeat("page", 4096)),
		file("base/1/113", ""),
		file("base/1/114", "odd"),
		{path: "pg_tblspc/16400", target: "/mnt/fast"},
		file("global/pg_control", strings.Repeat("c", 8192)),
	}
}

var spaceEntries = []entry{
	{path: "PG_15_202209061", dir: true},
	file("PG_15_202209061/5/16385", strings.Repeat("x", 8192)),
}

// versions are the two flows of the protocol.
var versions = []int{140023, 150018, 180004}

func TestRun(t *testing.T) {
	for _, version := range versions {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			old := version < 150000
			for _, chunk := range []int{1, 512, 777, 32768} {
				s := &script{version: version, main: archiveOf(t, old, mainEntries()...), space: archiveOf(t, old, spaceEntries...), chunk: chunk}
				server := s.serve(t)
				got := &sink{}
				if err := runBackup(t, server, got); err != nil {
					t.Fatal(err)
				}
				checkRun(t, got, len(s.main)+len(s.space)+len(manifestText))
				checkQuery(t, server, old)
			}
		})
	}
}

func checkRun(t *testing.T, got *sink, bytesSent int) {
	t.Helper()
	var want []entry
	for _, e := range spaceEntries {
		e.path = "pg_tblspc/16400/" + e.path
		want = append(want, e)
	}
	want = append(want, mainEntries()...)
	for i := range want {
		want[i].path = strings.TrimPrefix(want[i].path, "./")
	}
	if len(got.entries) != len(want) {
		t.Fatalf("%d entries, want %d", len(got.entries), len(want))
	}
	for i, w := range want {
		g := got.entries[i]
		if g.path != w.path || g.dir != w.dir || g.target != w.target || !bytes.Equal(g.content, w.content) {
			t.Errorf("entry %d is %q (%d bytes), want %q (%d bytes)", i, g.path, len(g.content), w.path, len(w.content))
		}
		if wantMode := map[bool]uint32{true: 0o700, false: 0o600}[w.dir]; got.modes[i] != wantMode {
			t.Errorf("mode of %s is %o", g.path, got.modes[i])
		}
	}
	if got.manifest != manifestText || got.received != int64(bytesSent) {
		t.Errorf("manifest %q, %d of %d bytes received", got.manifest, got.received, bytesSent)
	}
	st := got.start
	if st.SystemID != 7345678901234567890 || st.Timeline != 3 || st.StartLSN != 0x2000028 || st.Estimate != 5000<<10 ||
		len(st.Tablespaces) != 1 || st.Tablespaces[0] != (basebackup.Tablespace{OID: 16400, Location: "/mnt/fast", Size: 1000 << 10}) {
		t.Errorf("start %+v", st)
	}
	if got.end == nil || got.end.StopLSN != 0x2000100 || got.end.Timeline != 3 {
		t.Errorf("end %+v", got.end)
	}
}

func checkQuery(t *testing.T, server *fakepg.Server, old bool) {
	t.Helper()
	queries := server.Queries()
	want := "BASE_BACKUP (LABEL 'it''s mine', PROGRESS, CHECKPOINT 'fast', WAIT false, VERIFY_CHECKSUMS true, MANIFEST 'yes', MANIFEST_CHECKSUMS 'CRC32C', TARGET 'client', MAX_RATE 1024)"
	if old {
		want = "BASE_BACKUP LABEL 'it''s mine' PROGRESS FAST NOWAIT MAX_RATE 1024 MANIFEST 'yes' MANIFEST_CHECKSUMS 'CRC32C'"
	}
	if got := queries[len(queries)-1]; got != want {
		t.Errorf("query\n%s\nwant\n%s", got, want)
	}
}

// TestRunFails: whatever goes wrong, Run returns an error and End is not called.
func TestRunFails(t *testing.T) {
	checksum := func(c *fakepg.Conn) {
		c.Warning(`checksum verification failed in file "./base/1/112", block 0: calculated 1 but expected 2`)
		c.Rows("recptr tli", []any{"0/2000100", 3})
		c.Error("XX001", "checksum verification failure during base backup")
	}
	cases := []struct {
		name  string
		set   func(t *testing.T, s *script, sk *sink)
		want  string
		newer bool // for 15 and later only
		check func(error) bool
	}{
		{name: "damaged pages", want: `block 0`, set: func(_ *testing.T, s *script, _ *sink) { s.end = checksum },
			check: func(err error) bool { var e *basebackup.ChecksumError; return errors.As(err, &e) && e.Hint() != "" }},
		{name: "error after all data", want: "standby was promoted", set: func(_ *testing.T, s *script, _ *sink) {
			s.end = func(c *fakepg.Conn) { c.Error("55000", "the standby was promoted during online backup") }
		}},
		{name: "connection cut within a file", want: "connection to the server broke", set: func(_ *testing.T, s *script, _ *sink) { s.cutAfter = 9 }},
		{name: "connection cut in the manifest", want: "broke", set: func(_ *testing.T, s *script, _ *sink) { s.cutAfter = (len(s.main)+776)/777 + 1 }},
		{name: "no end", want: "broke", set: func(_ *testing.T, s *script, _ *sink) {
			s.end = func(c *fakepg.Conn) {
				c.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "57P01", Message: "broke off"})
			}
		}},
		{name: "tar cut within a file", want: "cut short", set: func(_ *testing.T, s *script, _ *sink) { s.main = s.main[:5000] }},
		{name: "tar cut between files", want: "cut short", newer: true, set: func(t *testing.T, s *script, _ *sink) {
			s.main = archiveOf(t, true, mainEntries()...)
		}},
		{name: "data after the archive", want: "after the end", newer: true, set: func(_ *testing.T, s *script, _ *sink) { s.main = append(s.main, "more"...) }},
		{name: "not a tar", want: "archive", set: func(_ *testing.T, s *script, _ *sink) { s.main = bytes.Repeat([]byte("junk"), 1000) }},
		{name: "path leads out", want: "illegal name", set: func(t *testing.T, s *script, _ *sink) {
			s.main = archiveOf(t, true, file("base/../../etc/passwd", "x"))
		}},
		{name: "absolute path", want: "illegal name", set: func(t *testing.T, s *script, _ *sink) { s.main = archiveOf(t, true, file("/etc/passwd", "x")) }},
		{name: "other archive", want: `"base.tar" was due`, newer: true, set: func(_ *testing.T, s *script, _ *sink) { s.rename = "16401.tar" }},
		{name: "the sink fails", want: "base/1/112", set: func(_ *testing.T, _ *script, sk *sink) { sk.failAt = "base/1/112" },
			check: func(err error) bool { return errors.Is(err, errSink) }},
		{name: "too old", want: "oldest", set: func(_ *testing.T, s *script, _ *sink) { s.version = 130012 }},
	}
	for _, test := range cases {
		for _, version := range versions {
			if test.newer && version < 150000 {
				continue
			}
			t.Run(fmt.Sprintf("%s %d", test.name, version/10000), func(t *testing.T) {
				s := &script{version: version, main: archiveOf(t, version < 150000, mainEntries()...)}
				sk := &sink{}
				test.set(t, s, sk)
				err := runBackup(t, s.serve(t), sk)
				if err == nil || !strings.Contains(err.Error(), test.want) || sk.end != nil {
					t.Fatalf("error %v, want %q; end %v", err, test.want, sk.end)
				}
				if test.check != nil && !test.check(err) {
					t.Errorf("error is %v", err)
				}
			})
		}
	}
}

// TestCutAnywhere: a connection that breaks after any message is an error.
func TestCutAnywhere(t *testing.T) {
	for _, version := range versions[:2] {
		full := archiveOf(t, version < 150000, mainEntries()...)
		messages := (len(full)+2047)/2048 + 1
		for n := 1; n <= messages; n++ {
			s := &script{version: version, main: full, cutAfter: n, chunk: 2048}
			sk := &sink{}
			if err := runBackup(t, s.serve(t), sk); err == nil || sk.end != nil {
				t.Fatalf("version %d, cut after message %d of %d: %v", version, n, messages, err)
			}
		}
	}
}

func TestRunIsCancelled(t *testing.T) {
	blocked := make(chan struct{})
	s := &script{version: 150018, main: archiveOf(t, false, mainEntries()...)}
	s.end = func(c *fakepg.Conn) { _ = c.Flush(); close(blocked); _, _ = c.Receive() }
	server := s.serve(t)
	src, err := protocol.New(protocol.Options{Conninfo: server.Conninfo()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var begin time.Time
	go func() { <-blocked; begin = time.Now(); cancel() }()
	if err := src.Run(ctx, basebackup.SourceOptions{}, &sink{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if d := time.Since(begin); d > 15*time.Second {
		t.Errorf("it took %s to cancel", d)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	server := (&script{version: 150018}).serve(t)
	src, err := protocol.New(protocol.Options{Conninfo: server.Conninfo()})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []basebackup.SourceOptions{
		{Label: "two\nlines"}, {Label: strings.Repeat("x", 1024)}, {Label: "\xff"},
		{MaxRate: 31}, {MaxRate: 1<<20 + 1}, {MaxRate: -1}, {Checkpoint: "soon"},
	} {
		if err := src.Run(context.Background(), o, &sink{}); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
	for _, q := range server.Queries() {
		if strings.HasPrefix(q, "BASE_BACKUP") {
			t.Errorf("sent %s", q)
		}
	}
}

func TestConnectHints(t *testing.T) {
	if _, err := protocol.New(protocol.Options{Conninfo: "host=/tmp port=notanumber"}); err == nil {
		t.Error("nonsense was accepted")
	}
	src, err := protocol.New(protocol.Options{Conninfo: "host=127.0.0.1 port=1 user=x sslmode=disable"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = src.Identify(context.Background())
	var refused *server.ConnectError
	if !errors.As(err, &refused) || refused.Hint() == "" || refused.Mode != server.Replication {
		t.Errorf("error %v", err)
	}
}
