//go:build unix

package setup

import (
	"testing"

	"github.com/walden-pg/walden/internal/config"
)

func TestNamesThatCannotBeRead(t *testing.T) {
	i := newInstallation(t, nil)
	i.expect("names", "ok: databases, schemas and relations can be read in every database")
	i.pg.Exec("CREATE ROLE reader LOGIN REPLICATION")
	i.pg.Exec("CREATE DATABASE private")
	i.pg.Exec("REVOKE CONNECT ON DATABASE private FROM PUBLIC")
	i.cfg.Clusters["main"] = config.Cluster{Connection: i.pg.Conninfo("postgres") + " user=reader"}
	i.expect("names", `warn: the names in database private cannot be read: permission denied for database "private"`)
}
