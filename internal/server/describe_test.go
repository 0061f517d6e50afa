//go:build unix

package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/internal/pgtest/fakepg"
	"github.com/walden-pg/walden/wal"
)

func TestIdentify(t *testing.T) {
	for _, c := range []struct {
		id, timeline string
		want         string // part of the error; "": none
	}{
		{"7564321098765432101", "3", ""},
		{"18446744073709551615", "4294967295", ""},
		{"-1", "1", "system identifier"},
		{"", "1", "system identifier"},
		{"7", "4294967296", "timeline"},
		{"7", "one", "timeline"},
	} {
		srv := answering(t, map[string][]any{"IDENTIFY_SYSTEM": {c.id, c.timeline, "0/0", nil}})
		conn, err := Connect(t.Context(), srv.Conninfo(), Replication, nil)
		if err != nil {
			t.Fatal(err)
		}
		id, tli, err := Identify(t.Context(), conn)
		_ = conn.Close(t.Context())
		switch {
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%q, %q: %v, want %q", c.id, c.timeline, err, c.want)
		case c.want == "" && (err != nil || fmt.Sprint(id) != c.id || fmt.Sprint(uint32(tli)) != c.timeline):
			t.Errorf("%q, %q: %d, %d, %v", c.id, c.timeline, id, tli, err)
		}
	}
}

func TestWrongNumberOfRows(t *testing.T) {
	srv := fakepg.New(t, func(c *fakepg.Conn, _ string) bool {
		c.Rows("a b", []any{"1", "1"}, []any{"2", "2"})
		c.Ready()
		return true
	})
	conn, err := Connect(t.Context(), srv.Conninfo(), Replication, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, _, err := Identify(t.Context(), conn); err == nil || !strings.Contains(err.Error(), "2 rows") {
		t.Errorf("two rows: %v", err)
	}
}

// describeFake describes a server that has these settings.
func describeFake(t *testing.T, settings ...[]any) (*Description, error) {
	t.Helper()
	srv := fakepg.New(t, func(c *fakepg.Conn, sql string) bool {
		switch sql {
		case settingsQuery:
			c.Rows("name setting pending_restart", settings...)
		case roleQuery:
			c.Rows("a b c d e", []any{"f", "t", "f", "f", "t"})
		case archiverQuery:
			c.Rows("a b c d e", []any{"12", "3", "000000010000000000000002", "", "f"})
		default:
			c.Rows("a", []any{"f"})
		}
		c.Ready()
		return true
	})
	conn, err := Connect(t.Context(), srv.Conninfo(), SQL, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	return Describe(t.Context(), conn)
}

func TestDescribeVersions(t *testing.T) {
	size := []any{"wal_segment_size", "16777216", "f"}
	for version, supported := range map[string]bool{"130020": false, "140000": true, "190001": true, "200000": false} {
		d, err := describeFake(t, []any{"server_version_num", version, "f"}, size)
		var unsupported *UnsupportedVersionError
		if supported != (err == nil) || !supported && !errors.As(err, &unsupported) {
			t.Errorf("%s: %+v, %v", version, d, err)
		}
	}
	d, err := describeFake(t, []any{"server_version_num", "150004", "f"}, size, []any{"archive_mode", "off", "t"}, []any{"data_directory", "/d", "f"},
		[]any{"config_file", "/etc/postgresql.conf", "f"}, []any{"hba_file", "/d/pg_hba.conf", "f"}, []any{"ident_file", "/dd/pg_ident.conf", "f"})
	if err != nil {
		t.Fatal(err)
	}
	if !d.Settings["archive_mode"].PendingRestart || d.Superuser || !d.CanReplicate || d.CanSwitchWAL || d.ConfigReadable || !d.InRecovery {
		t.Errorf("%+v", d)
	}
	if d.Archiver != (Archiver{Archived: 12, Failed: 3, LastArchived: "000000010000000000000002"}) {
		t.Errorf("archiver: %+v", d.Archiver)
	}
	if want := []string{"/etc/postgresql.conf", "/dd/pg_ident.conf"}; !slices.Equal(d.ExternalConfig, want) {
		t.Errorf("outside: %v, want %v", d.ExternalConfig, want)
	}
	if len(d.Hidden) != 1 || d.Hidden[0].Name != "pg_file_settings" {
		t.Errorf("15 has one view that names included files: %v", d.Hidden)
	}
	for _, bad := range [][]any{{"server_version_num", "many", "f"}, {"wal_segment_size", "-1", "f"}} {
		rows := [][]any{{"server_version_num", "170001", "f"}, size, bad} // the last wins
		if d, err := describeFake(t, rows...); err == nil {
			t.Errorf("%v: %+v", bad, d)
		}
	}
}

// TestDescribe asks real servers, as a superuser and as a role that may do little.
func TestDescribe(t *testing.T) {
	for _, major := range pgtest.Majors() {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			hba := filepath.Join(pgtest.TempDir(t), "hba.conf")
			if err := os.WriteFile(hba, []byte("local all all trust\nlocal replication all trust\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			c := pgtest.New(t, pgtest.Options{Major: major, SegmentSizeMB: 2, Settings: map[string]string{"hba_file": hba}})
			c.Exec("CREATE ROLE plain LOGIN")
			describe := func(user string) *Description {
				t.Helper()
				conn, err := Connect(t.Context(), c.Conninfo("postgres")+" user="+user, SQL, nil)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close(t.Context())
				d, err := Describe(t.Context(), conn)
				if err != nil {
					t.Fatal(err)
				}
				return d
			}
			super := describe("postgres")
			if super.Major() != major || super.SegmentSize != wal.SegmentSize(2<<20) || !super.Superuser || !super.CanReplicate ||
				!super.CanSwitchWAL || !super.ConfigReadable || super.InRecovery || len(super.Hidden) != 0 {
				t.Errorf("superuser: %+v", super)
			}
			if !slices.Equal(super.ExternalConfig, []string{hba}) {
				t.Errorf("outside: %v", super.ExternalConfig)
			}
			plain := describe("plain")
			if plain.Superuser || plain.CanReplicate || plain.CanSwitchWAL || plain.ConfigReadable || len(plain.Hidden) == 0 || len(plain.ExternalConfig) != 0 {
				t.Errorf("plain role: %+v", plain)
			}
			if _, visible := plain.Settings["config_file"]; visible {
				t.Error("a plain role sees config_file")
			}

			conn, err := Connect(t.Context(), c.Conninfo("postgres"), SQL, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(t.Context())
			if err := EmitMessage(t.Context(), conn); err != nil {
				t.Fatal(err)
			}
			name, err := SwitchWAL(t.Context(), conn)
			if err != nil || len(name) != 24 {
				t.Errorf("switch: %q, %v", name, err)
			}
			repl, err := Connect(t.Context(), c.Conninfo("postgres"), Replication, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer repl.Close(t.Context())
			if id, tli, err := Identify(t.Context(), repl); id != c.SystemID() || tli != 1 || err != nil {
				t.Errorf("identify: %d on timeline %d, %v", id, tli, err)
			}
		})
	}
}
