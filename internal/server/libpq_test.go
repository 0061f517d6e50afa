package server

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// TestParseTakesWhatLibpqWrites: the connection string of a standby that was
// made with pg_basebackup -R (PostgreSQL 18), and what people add to it.
func TestParseTakesWhatLibpqWrites(t *testing.T) {
	const standby = "user=u passfile='/p' channel_binding=prefer host=h port=5433 sslmode=prefer sslnegotiation=postgres sslcompression=0 " +
		"sslcertmode=allow sslsni=1 ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version=TLSv1.3 gssencmode=prefer krbsrvname=postgres gssdelegation=0 " +
		"target_session_attrs=any load_balance_hosts=disable keepalives=1 keepalives_idle=30 tcp_user_timeout=9 client_encoding=auto " +
		"fallback_application_name=standby"
	cfg, err := Parse(standby)
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.RuntimeParams) != 1 || cfg.RuntimeParams["application_name"] != "standby" {
		t.Errorf("settings for the server: %v", cfg.RuntimeParams)
	}
	if cfg.TLSConfig == nil || cfg.TLSConfig.MinVersion != tls.VersionTLS13 || cfg.TLSConfig.MaxVersion != tls.VersionTLS13 {
		t.Errorf("TLS: %+v", cfg.TLSConfig)
	}
	cfg, err = Parse("host=h application_name=mine fallback_application_name=x options='-c work_mem=1MB' statement_timeout=5 client_encoding=UTF8")
	if err != nil || len(cfg.RuntimeParams) != 4 || cfg.RuntimeParams["application_name"] != "mine" {
		t.Errorf("%v, %v", cfg, err)
	}
}

func TestParseRefusesWhatItCannotDo(t *testing.T) {
	for _, what := range []string{"requirepeer=postgres", "hostaddr=127.0.0.1", "sslcrl=/x", "gssencmode=require", "ssl_min_protocol_version=SSLv3"} {
		_, err := Parse("host=h " + what)
		if name, _, _ := strings.Cut(what, "="); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestPasswordFile: a line of the password file is found for the database that
// is connected to, and for "replication".
func TestPasswordFile(t *testing.T) {
	srv := answering(t, nil)
	host := strings.Fields(srv.Conninfo())
	address := strings.TrimPrefix(host[0], "host=") + ":" + strings.TrimPrefix(host[1], "port=")
	base := strings.Join([]string{host[0], host[1], "user=walden", "sslmode=disable"}, " ")
	file := filepath.Join(t.TempDir(), "pass")
	for _, c := range []struct {
		lines, more      string
		sql, replication string
	}{
		{"*:*:*:walden:any", "", "any", "any"},
		{address + ":postgres:walden:one", "", "one", "one"},
		{address + ":replication:walden:two", "", "", "two"},
		{address + ":replication:walden:two\n*:*:*:*:any", "", "any", "two"},
		{address + ":replication:walden:two\n" + address + ":app:walden:three", "dbname=app", "three", "three"},
		{address + ":replication:walden:two", "dbname=app", "", "two"},
		{"*:*:*:walden:any", "password=given", "given", "given"},
		{"*:*:*:other:any", "", "", ""},
	} {
		if err := os.WriteFile(file, []byte(c.lines+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		query := "postgres://walden@" + address + "/?sslmode=disable&passfile=" + file
		for _, conninfo := range []string{base + " passfile=" + file + " " + c.more, query + "&" + c.more} {
			conninfo = strings.TrimSuffix(conninfo, "&")
			for mode, want := range map[Mode]string{SQL: c.sql, Replication: c.replication} {
				var seen string
				conn, err := Connect(t.Context(), conninfo, mode, func(cfg *pgconn.Config) { seen = cfg.Password })
				if err != nil {
					t.Fatal(err)
				}
				_ = conn.Close(t.Context())
				if seen != want {
					t.Errorf("%q, %s, mode %d: password %q, want %q", c.lines, conninfo, mode, seen, want)
				}
			}
		}
	}
}

// TestWithDatabase: whatever the database is called, it is the one that is connected to, and
// its line of the password file counts.
func TestWithDatabase(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pass")
	if err := os.WriteFile(file, []byte("h:5432:app:u:one\nh:5432:other:u:two\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, conninfo := range []string{"host=h user=u dbname=app passfile=" + file, "postgres://u@h/app?passfile=" + file, "postgresql://u@h/?dbname=app&passfile=" + file} {
		for database, password := range map[string]string{"other": "two", "app": "one", `it's a \ "b" = c+&d?#/%41`: "", "'": "", `\`: "", " ": ""} {
			cfg, err := Parse(WithDatabase(conninfo, database))
			if err != nil || cfg.Database != database || cfg.Password != password || cfg.User != "u" || cfg.Host != "h" {
				t.Errorf("%s, %q: %+v, %v", conninfo, database, cfg, err)
			}
		}
	}
	if cfg, err := Parse(WithDatabase("postgres://u@h", "other")); err != nil || cfg.Database != "other" {
		t.Errorf("%+v, %v", cfg, err)
	}
}
