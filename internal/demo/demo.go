// Package demo runs the main job once, before the user's eyes, on a throw-away
// cluster: archive, back up, lose a table, bring it back. It types the commands
// that a DBA would type.
package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Options are the wishes of `walden demo`.
type Options struct {
	// Walden is the absolute path of the binary.
	Walden string
	// BinDir is where PostgreSQL's programs are; empty: the newest major found.
	BinDir string
	// Keep leaves the directory for inspection.
	Keep bool
	// Out gets the story, a line a step.
	Out io.Writer
}

// Report is the demonstration's result.
type Report struct {
	Directory string  `json:"directory"`
	Server    string  `json:"server"`
	Orders    int     `json:"orders"`
	Restored  int     `json:"restored"`
	Seconds   float64 `json:"seconds"`
}

const (
	firstOrders = 1000
	moreOrders  = 500
)

type demo struct {
	Options
	dir    string
	user   *account
	ctx    context.Context
	step   int
	lost   loss
	socket string // directory of the restored server's socket
	report Report
}

// Run plays the demonstration. An error says which step failed; then nothing
// that was promised on the way was true, and the caller exits non-zero.
func Run(ctx context.Context, o Options) (rep *Report, err error) {
	began := time.Now()
	d := &demo{Options: o, ctx: ctx}
	if err := d.prepare(); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.cleanUp()) }()
	for _, step := range []func() error{d.startCluster, d.initWalden, d.firstOrders, d.backup, d.disaster, d.plan, d.restore, d.compare} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	d.report.Seconds = time.Since(began).Seconds()
	fmt.Fprintf(d.Out, "     done in %.1f s\n", d.report.Seconds)
	return &d.report, nil
}

// prepare finds PostgreSQL and makes a directory that its server may use.
func (d *demo) prepare() error {
	var err error
	if d.user, err = serverAccount(); err != nil {
		return err
	}
	if d.BinDir == "" {
		if d.BinDir, err = findPostgres(); err != nil {
			return err
		}
	}
	if d.dir, err = os.MkdirTemp("", "walden-demo-"); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	d.report.Directory = d.dir
	if err := d.user.own(d.dir); err != nil {
		return err
	}
	// The binary may lie where the server's user cannot go.
	own := filepath.Join(d.dir, "walden")
	if err := copyExecutable(d.Walden, own); err != nil {
		return err
	}
	d.Walden = own
	version, err := d.program("postgres", "--version")
	if err != nil {
		return err
	}
	// It says "postgres (PostgreSQL) 17.2 (Debian …)".
	d.report.Server = strings.TrimSpace(strings.Replace(version, "postgres (PostgreSQL)", "PostgreSQL", 1))
	fmt.Fprintf(d.Out, "walden demo, on a throw-away cluster (%s) in %s\n\n", d.report.Server, d.dir)
	return nil
}

func (d *demo) say(format string, args ...any) {
	d.step++
	fmt.Fprintf(d.Out, "%2d.  %s\n", d.step, fmt.Sprintf(format, args...))
}

func (d *demo) data() string { return filepath.Join(d.dir, "data") }

func (d *demo) connection() string { return "host=" + d.dir + " user=postgres dbname=postgres" }

func (d *demo) startCluster() error {
	if _, err := d.program("initdb", "-D", d.data(), "-U", "postgres", "-A", "trust", "-k", "-N", "--no-instructions"); err != nil {
		return err
	}
	conf := fmt.Sprintf("listen_addresses = ''\nunix_socket_directories = '%s'\narchive_mode = on\nfsync = off\n", d.dir)
	if err := appendFile(filepath.Join(d.data(), "postgresql.conf"), conf); err != nil {
		return err
	}
	if err := d.startServer(); err != nil {
		return err
	}
	d.say("a cluster is running")
	return nil
}

func (d *demo) startServer() error {
	_, err := d.program("pg_ctl", "-D", d.data(), "-l", filepath.Join(d.dir, "server.log"), "-w", "start")
	return err
}

func (d *demo) initWalden() error {
	var rep struct {
		Apply struct {
			SQL []string `json:"sql"`
		} `json:"apply"`
	}
	if err := d.walden(&rep, "init", "--repository", "file://"+filepath.Join(d.dir, "repository"), "--connection", d.connection()); err != nil {
		return err
	}
	for _, sql := range rep.Apply.SQL {
		if _, err := d.sql(d.dir, sql); err != nil {
			return err
		}
	}
	d.say("$ walden init       the repository exists; archive_command now runs `walden wal-push`")
	return nil
}

func (d *demo) firstOrders() error {
	_, err := d.sql(d.dir, fmt.Sprintf(`CREATE TABLE orders (id int PRIMARY KEY, customer text, amount numeric(10,2), at timestamptz DEFAULT now());
INSERT INTO orders SELECT i, 'customer ' || i %% 97, (i * 7919 %% 100000) / 100.0 FROM generate_series(1, %d) i`, firstOrders))
	if err == nil {
		d.say("%d orders are written", firstOrders)
	}
	return err
}

func (d *demo) backup() error {
	var b struct {
		ID          string `json:"id"`
		Bytes       int64  `json:"bytes"`
		StoredBytes int64  `json:"stored_bytes"`
	}
	began := time.Now()
	if err := d.walden(&b, "backup", "--checkpoint", "fast"); err != nil {
		return err
	}
	d.say("$ walden backup     %s: %.1f MiB of files, %.1f MiB stored, %.1f s", b.ID, mib(b.Bytes), mib(b.StoredBytes), time.Since(began).Seconds())
	return nil
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

// disaster writes more orders, remembers what was there, and drops the table.
func (d *demo) disaster() error {
	if _, err := d.sql(d.dir, fmt.Sprintf("INSERT INTO orders SELECT i, 'customer ' || i %% 97, (i * 7919 %% 100000) / 100.0 FROM generate_series(%d, %d) i", firstOrders+1, firstOrders+moreOrders)); err != nil {
		return err
	}
	d.report.Orders = firstOrders + moreOrders
	d.say("%d more orders come in after the backup", moreOrders)
	before, err := d.sql(d.dir, fingerprint)
	if err != nil {
		return err
	}
	xid, err := d.sql(d.dir, "BEGIN; DROP TABLE orders; SELECT pg_current_xact_id(); COMMIT")
	if err != nil {
		return err
	}
	d.lost = loss{before: before, xid: xid}
	d.say("%s; then somebody types DROP TABLE orders (transaction %s)", before, xid)
	return d.archiveAll()
}

// fingerprint is what must be the same before and after.
const fingerprint = "SELECT count(*) || ' orders, ' || sum(amount) || ' in all, fingerprint ' || substr(md5(string_agg(o::text, ',' ORDER BY id)), 1, 12) FROM orders o"

// loss is what the disaster took, and which transaction it was.
type loss struct {
	before string
	xid    string
}

func (d *demo) plan() error {
	var p struct {
		Segments int `json:"segments"`
	}
	if err := d.walden(&p, "plan", "--xid", d.lost.xid, "--exclusive"); err != nil {
		return err
	}
	d.say("$ walden plan --xid %s --exclusive       proved: backup, %d WAL segments without a gap, the transaction is there", d.lost.xid, p.Segments)
	return nil
}

// archiveAll ends the segment and waits until the archiver has delivered it.
func (d *demo) archiveAll() error {
	name, err := d.sql(d.dir, "SELECT pg_walfile_name(pg_switch_wal())")
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		done, err := d.sql(d.dir, "SELECT last_archived_wal >= '"+name+"' FROM pg_stat_archiver")
		if err != nil {
			return err
		}
		if done == "t" {
			return nil
		}
	}
	return fmt.Errorf("demo: segment %s was not archived within 30 s: see %s", name, filepath.Join(d.dir, "server.log"))
}

func (d *demo) restored() string { return filepath.Join(d.dir, "restored") }

func (d *demo) restore() error {
	var r struct {
		Recovery struct {
			Message string `json:"message"`
			Socket  string `json:"socket_directory"`
		} `json:"recovery"`
	}
	began := time.Now()
	if err := d.walden(&r, "restore", "--xid", d.lost.xid, "--exclusive", "--to", d.restored(), "--action", "promote",
		"--start", "--pg-bin", d.BinDir); err != nil {
		return err
	}
	d.socket = r.Recovery.Socket
	d.say("$ walden restore --xid %s --exclusive --to DIR --start       %.1f s; PostgreSQL says: %s", d.lost.xid, time.Since(began).Seconds(), r.Recovery.Message)
	return nil
}

func (d *demo) compare() error {
	after, err := d.sql(d.socket, fingerprint)
	if err != nil {
		return err
	}
	if after != d.lost.before {
		return fmt.Errorf("demo: the restored table is not the one that was lost: before %q, after %q", d.lost.before, after)
	}
	d.report.Restored = firstOrders + moreOrders
	d.say("%s: every row is back", after)
	return nil
}

// cleanUp stops the servers and removes everything.
func (d *demo) cleanUp() error {
	d.ctx = context.WithoutCancel(d.ctx)
	var errs []error
	for _, dir := range []string{d.data(), d.restored()} {
		if _, err := os.Stat(filepath.Join(dir, "postmaster.pid")); err == nil {
			_, err := d.program("pg_ctl", "-D", dir, "-m", "immediate", "-w", "stop")
			errs = append(errs, err)
		}
	}
	if d.Keep {
		fmt.Fprintf(d.Out, "     kept: %s\n", d.dir)
		return errors.Join(errs...)
	}
	return errors.Join(append(errs, os.RemoveAll(d.dir))...)
}

// walden runs one command as the server's user and decodes its document.
func (d *demo) walden(v any, args ...string) error {
	out, err := d.command(d.Walden, append([]string{"--json", "--config", filepath.Join(d.dir, "walden.yaml")}, args...)...)
	if err != nil {
		return fmt.Errorf("demo: walden %s: %w", args[0], err)
	}
	if err := json.Unmarshal([]byte(out), v); err != nil {
		return fmt.Errorf("demo: walden %s printed no JSON: %w", args[0], err)
	}
	return nil
}

// sql runs statements through psql on the server whose socket is in dir.
func (d *demo) sql(dir, statements string) (string, error) {
	out, err := d.program("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", dir, "-U", "postgres", "-d", "postgres", "-c", statements)
	return strings.TrimSpace(out), err
}

func (d *demo) program(name string, args ...string) (string, error) {
	out, err := d.command(filepath.Join(d.BinDir, name), args...)
	if err != nil {
		return "", fmt.Errorf("demo: %s: %w", name, err)
	}
	return out, nil
}

func (d *demo) command(path string, args ...string) (string, error) {
	cmd := exec.CommandContext(d.ctx, path, args...)
	cmd.Dir = d.dir
	cmd.Env = append(cleanEnvironment(), "HOME="+d.dir)
	d.user.run(cmd)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	// pg_ctl's server inherits the pipes: do not wait for it to close them.
	cmd.WaitDelay = 2 * time.Second
	err := cmd.Run()
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return "", fmt.Errorf("%w\n%s", err, strings.TrimSpace(errOut.String()))
	}
	return out.String(), nil
}
