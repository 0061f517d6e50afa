package server

import (
	"crypto/tls"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// libpqOnly are keywords of libpq (fe-connect.c, conninfo_options) that pgconn
// does not know: it would send them to the server as settings, which the server
// refuses. Here are those that may be left out without anything being less
// safe, as in a primary_conninfo that pg_basebackup -R wrote.
var libpqOnly = []string{
	"fallback_application_name", "gssdelegation", "gsslib", "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval",
	"load_balance_hosts", "sslcompression", "sslkeylogfile", "tcp_user_timeout",
}

// libpqUnsupported are those that may not: they say whom to trust, or where the server is.
var libpqUnsupported = []string{
	"hostaddr", "requirepeer", "scram_client_key", "scram_server_key", "sslcrl", "sslcrldir", "requiressl",
	"oauth_issuer", "oauth_client_id", "oauth_client_secret", "oauth_scope",
}

// tlsVersions are the values of ssl_min_protocol_version and ssl_max_protocol_version.
var tlsVersions = map[string]uint16{
	"tlsv1": tls.VersionTLS10, "tlsv1.1": tls.VersionTLS11, "tlsv1.2": tls.VersionTLS12, "tlsv1.3": tls.VersionTLS13,
}

// adaptLibpq deals with the keywords of libpq that pgconn took for settings of the server.
func adaptLibpq(cfg *pgconn.Config) error {
	params := cfg.RuntimeParams
	if params["application_name"] == "" && params["fallback_application_name"] != "" {
		params["application_name"] = params["fallback_application_name"]
	}
	for _, name := range libpqOnly {
		delete(params, name)
	}
	for _, name := range libpqUnsupported {
		if _, ok := params[name]; ok {
			return unsupported(name)
		}
	}
	// "auto" takes the encoding from the locale of the client, which has none here.
	if params["client_encoding"] == "auto" {
		delete(params, "client_encoding")
	}
	// Encryption by GSSAPI is something to prefer or to do without, as far as it is not demanded.
	if params["gssencmode"] == "require" {
		return unsupported("gssencmode=require")
	}
	delete(params, "gssencmode")
	for _, name := range []string{"ssl_min_protocol_version", "ssl_max_protocol_version"} {
		if err := limitTLS(cfg, name); err != nil {
			return err
		}
	}
	return nil
}

func unsupported(what string) error {
	return fmt.Errorf("connection string: %s is not supported: leave it out", what)
}

// limitTLS applies a limit of the TLS version to all hosts.
func limitTLS(cfg *pgconn.Config, name string) error {
	text, ok := cfg.RuntimeParams[name]
	delete(cfg.RuntimeParams, name)
	if !ok || text == "" {
		return nil
	}
	version, ok := tlsVersions[strings.ToLower(text)]
	if !ok {
		return fmt.Errorf("connection string: %s is TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3", name)
	}
	configs := []*tls.Config{cfg.TLSConfig}
	for _, f := range cfg.Fallbacks {
		configs = append(configs, f.TLSConfig)
	}
	configs = slices.DeleteFunc(configs, func(c *tls.Config) bool { return c == nil })
	for _, c := range configs {
		if name == "ssl_min_protocol_version" {
			c.MinVersion = max(version, tls.VersionTLS12)
		} else {
			c.MaxVersion = version
		}
	}
	return nil
}

// password looks again where pgconn has found none: it looks into the password
// file for the database that the connection string names, and so for none where
// it names none. The lines of that file which are meant for replication name
// "replication" as their database, and pg_basebackup and pg_receivewal look for
// that.
func password(conninfo string, mode Mode) string {
	databases := []string{"postgres"}
	if cfg, err := pgconn.ParseConfig(conninfo); err != nil || cfg.Database != "" {
		if err != nil || cfg.Password != "" {
			return ""
		}
		databases = nil
	}
	if mode == Replication {
		databases = slices.Insert(databases, 0, "replication")
	}
	for _, database := range databases {
		if cfg, err := pgconn.ParseConfig(WithDatabase(conninfo, database)); err == nil && cfg.Password != "" {
			return cfg.Password
		}
	}
	return ""
}

// WithDatabase names another database in a connection string, whatever its name is
// made of: the last of several keywords counts, and what is in the query of a URL. So
// the password is the one that a password file has for that database.
func WithDatabase(conninfo, database string) string {
	if strings.HasPrefix(conninfo, "postgres://") || strings.HasPrefix(conninfo, "postgresql://") {
		separator := "?"
		if strings.Contains(conninfo, "?") {
			separator = "&"
		}
		// A plus is a plus in these URLs, no blank.
		return conninfo + separator + "dbname=" + strings.ReplaceAll(url.QueryEscape(database), "+", "%20")
	}
	escaped := strings.ReplaceAll(database, `\`, `\\`)
	return conninfo + " dbname='" + strings.ReplaceAll(escaped, "'", `\'`) + "'"
}
