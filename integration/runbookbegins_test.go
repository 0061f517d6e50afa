//go:build unix

package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/walden-pg/walden/internal/pgtest"
)

func (r *runbook) portOf(c *pgtest.Cluster) string { return strconv.Itoa(c.Port()) }

// start starts a service, and waits until the server streams to it.
func (r *runbook) start() {
	r.t.Helper()
	r.sh("systemctl start walden-stream")
	(&streamer{t: r.t}).attached(r.pg)
}

// sh runs a command that must succeed.
func (r *runbook) sh(command string) {
	r.t.Helper()
	if out, code := r.shell(command); code != 0 {
		r.t.Fatalf("%s: exit code %d\n%s", command, code, out)
	}
}

// load is the life of the database before the page: two tables of a shop, a
// stream, a backup, and orders that came after it.
func (r *runbook) load() {
	r.t.Helper()
	r.start()
	r.sh(`createdb shop`)
	r.sh(`psql -q shop -c "CREATE TABLE customers AS SELECT i AS id, md5(i::text) AS name FROM generate_series(1, 2000) i" ` +
		`-c "CREATE TABLE orders (id int PRIMARY KEY, customer int, amount numeric(10,2), at timestamptz DEFAULT clock_timestamp())" ` +
		`-c "INSERT INTO orders SELECT i, i % 2000, i / 10.0 FROM generate_series(1, 20000) i"`)
	r.sh("walden backup --checkpoint fast")
	r.sh(`psql -q shop -c "INSERT INTO orders SELECT i, i % 2000, i / 10.0 FROM generate_series(20001, 20500) i"`)
	r.caughtUp()
}

// caughtUp waits until everything is in the repository.
func (r *runbook) caughtUp() {
	r.t.Helper()
	(&streamer{t: r.t}).caughtUp(r.pg)
}

func (r *runbook) losePrimary() {
	r.pg.Kill()
	check(r.t, os.RemoveAll(r.pg.DataDir()))
}

// dropTable: one table is dropped, another one loses rows.
func (r *runbook) dropTable() {
	r.sh(`psql -q shop -c "DROP TABLE orders" -c "DELETE FROM customers WHERE id > 500" -c "INSERT INTO customers VALUES (2001, 'new')"`)
	r.caughtUp()
}

// corruptPages overwrites a part of a table behind the server's back.
func (r *runbook) corruptPages() {
	r.sh(`psql -q shop -c "CHECKPOINT"`)
	path := filepath.Join(r.pg.DataDir(), r.pg.QueryIn("shop", "SELECT pg_relation_filepath('orders')")[0][0])
	r.pg.Stop(pgtest.Fast)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	check(r.t, err)
	_, err = f.WriteAt([]byte("this is not what PostgreSQL wrote here"), 5*8192+4000)
	check(r.t, err)
	check(r.t, f.Close())
	r.sh("pg_ctl -D " + r.pg.DataDir() + " -l " + r.dir + "/server.log -w start")
	r.awaitStream()
}

// awaitStream waits for a stream of the server that a page's command started.
func (r *runbook) awaitStream() {
	r.sh(`for i in {1..600}; do [ "$(psql -AtXc "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'walden'")" = 1 ] && exit; sleep 0.1; done; exit 1`)
}

// damageRepository flips bits of a sealed segment and of a pack.
func (r *runbook) damageRepository() {
	r.sh("walden backup --checkpoint fast")
	for range 3 {
		r.sh(`psql -q shop -c "UPDATE orders SET amount = amount + 1 WHERE id % 10 = 0" -c "SELECT pg_switch_wal()"`)
	}
	r.caughtUp()
	segments, err := filepath.Glob(filepath.Join(r.objects, "main", "*", "wal", "*", "*", "0*"))
	check(r.t, err)
	packs, err := filepath.Glob(filepath.Join(r.objects, "main", "*", "packs", "*", "*"))
	check(r.t, err)
	if len(segments) < 4 || len(packs) < 2 {
		r.t.Fatalf("segments %v, packs %v", segments, packs)
	}
	r.flip(segments[len(segments)-2])
	r.flip(packs[0])
}

// flip changes a byte in the midst of an object.
func (r *runbook) flip(path string) {
	r.t.Helper()
	b, err := os.ReadFile(path)
	check(r.t, err)
	info, err := os.Stat(path)
	check(r.t, err)
	b[len(b)/3] ^= 1
	check(r.t, os.Chmod(path, 0o600))
	check(r.t, os.WriteFile(path, b, 0o600))
	check(r.t, os.Chmod(path, info.Mode()))
}

// failOver: a standby is there, the stream knows both hosts, and the primary has died.
func (r *runbook) failOver() {
	standby := r.pg.Standby("standby")
	r.sh("systemctl stop walden-stream")
	first, second := "host="+r.pg.SocketDir()+" port="+r.portOf(r.pg), "host="+standby.SocketDir()+" port="+r.portOf(standby)
	r.places = append([]string{"host=db1", first, "host=db2", second,
		"db1 port 5432", r.pg.SocketDir() + " port " + r.portOf(r.pg), "db2 port 5432", standby.SocketDir() + " port " + r.portOf(standby),
		"/var/lib/postgresql/17/standby", standby.DataDir()}, r.places...)
	b, err := os.ReadFile(r.config)
	check(r.t, err)
	both := "host=" + r.pg.SocketDir() + "," + standby.SocketDir() + " port=" + r.portOf(r.pg) + "," + r.portOf(standby) + " user=postgres target_session_attrs=read-write"
	text := regexp.MustCompile(`connection: .*`).ReplaceAllLiteralString(string(b), "connection: "+strconv.Quote(both))
	check(r.t, os.WriteFile(r.config, []byte(text), 0o644))
	r.start()
	r.sh(`psql -q shop -c "INSERT INTO orders SELECT i, i % 2000, i / 10.0 FROM generate_series(20501, 20600) i"`)
	standby.WaitReplayed(r.pg)
	r.caughtUp()
	r.pg.Kill()
}

// restoreWrongly: a table was dropped, and somebody restored to a moment that was
// too early, and let the shop go on from there.
func (r *runbook) restoreWrongly() {
	early := r.pg.LSN()
	r.sh(`psql -q shop -c "INSERT INTO orders SELECT i, i % 2000, i / 10.0 FROM generate_series(20501, 21000) i"`)
	r.sh(`psql -q shop -c "DROP TABLE orders"`)
	r.caughtUp()
	r.pg.Stop(pgtest.Fast)
	data := r.pg.DataDir()
	check(r.t, os.Rename(data, data+".before"))
	r.sh("walden restore --lsn " + early + " --exclusive --keep-archiving --action promote --to " + data)
	r.sh("pg_ctl -D " + data + " -l " + r.dir + "/server.log -w start")
	r.sh(`until [ "$(psql -AtXc "SELECT pg_is_in_recovery()")" = f ]; do sleep 0.1; done`)
	r.awaitStream()
	r.sh(`psql -q shop -c "INSERT INTO orders SELECT i, i % 2000, i / 10.0 FROM generate_series(30001, 30040) i"`)
	r.sh("walden backup --checkpoint fast")
	r.caughtUp()
}

// fillDisk: the stream is away, and WAL has piled up on the server.
func (r *runbook) fillDisk() {
	r.pg.Exec("ALTER SYSTEM SET max_wal_size = '64MB'")
	r.pg.Exec("ALTER SYSTEM SET min_wal_size = '32MB'")
	r.pg.Reload()
	r.sh("systemctl stop walden-stream")
	for range 10 {
		r.sh(`psql -q shop -c "UPDATE orders SET amount = amount + 1 WHERE id % 10 = 0" -c "SELECT pg_switch_wal()"`)
	}
	r.sh(`psql -q -c "CHECKPOINT"`)
}

// outgrowBucket gives the page an empty bucket beside the one in use.
func (r *runbook) outgrowBucket() {
	if _, err := exec.LookPath("rclone"); err != nil {
		pgtest.Missing(r.t, "%v", err)
	}
	next := r.s3.NewBucket(r.t)
	r.places = append(r.places, "acme-walden-2", next, "acme-walden", r.s3.Bucket, "https://s3.example.com", r.s3.Endpoint)
	r.environment("RCLONE_CONFIG_S3_TYPE=s3", "RCLONE_CONFIG_S3_PROVIDER=Other", "RCLONE_CONFIG_S3_ENV_AUTH=true",
		"RCLONE_CONFIG_S3_ENDPOINT="+r.s3.Endpoint, "RCLONE_CONFIG_S3_FORCE_PATH_STYLE=true", "AWS_CA_BUNDLE=",
		"RCLONE_CONFIG="+strings.TrimSuffix(r.config, "walden.yaml")+"rclone.conf")
}
