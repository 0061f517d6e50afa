//go:build unix

package drill

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walden-pg/walden/replay/recovery"
	"github.com/walden-pg/walden/replay/scratch"
	"github.com/walden-pg/walden/wal/control"
)

// session are settings of our own connections: they win over those of databases and roles.
var session = map[string]string{
	"statement_timeout": "0", "lock_timeout": "0", "idle_in_transaction_session_timeout": "0",
	// Event triggers of the application are not for us.
	"session_replication_role": "replica",
}

// examine makes the checks on the open server, and then on its files.
func (d *drill) examine(ctx context.Context) {
	databases, err := d.enter(ctx)
	if err != nil {
		d.fail(ctx, CheckTransactions, err.Error(), nil, 0)
	} else {
		d.checkAssertions(ctx, databases)
		d.checkAmcheck(ctx, databases)
	}
	d.checkChecksums(ctx)
}

// database is one of the server in scratch.
type database struct {
	name    string
	connect bool // connections are allowed
	invalid bool // DROP DATABASE was cut off
	own     bool // neither postgres nor a template
}

// enter asks for the databases that there are at the stop, and for transactions.
func (d *drill) enter(ctx context.Context) ([]database, error) {
	roles := slices.Clone(d.contents.Superusers)
	slices.Reverse(roles)
	names := []string{"template1", "postgres"}
	for _, known := range d.contents.Databases {
		if known.Name != "" && !slices.Contains(names, known.Name) {
			names = append(names, known.Name)
		}
	}
	conn, role, err := scratch.Enter(ctx, d.outcome.Server, names, roles, session)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	d.role = role
	d.checkTransactions(ctx, conn)
	rows, err := scratch.Query(ctx, conn, "SELECT datname, datallowconn::text, (datconnlimit = -2)::text, (NOT datistemplate AND datname <> 'postgres')::text, (datname = current_database())::text FROM pg_catalog.pg_database ORDER BY datname")
	if err != nil {
		return nil, fmt.Errorf("list of the databases: %w", err)
	}
	var list []database
	for _, r := range rows {
		list = append(list, database{name: r[0], connect: r[1] == "true", invalid: r[2] == "true", own: r[3] == "true"})
		if r[4] == "true" {
			d.entered = r[0]
		}
	}
	return list, nil
}

// checkAmcheck lets pg_amcheck look at all tables and indexes.
func (d *drill) checkAmcheck(ctx context.Context, list []database) {
	if slices.Contains(d.Skip, CheckAmcheck) {
		d.record.add(Check{Name: CheckAmcheck, State: Skipped, Text: "pg_amcheck was not run: it was skipped"})
		return
	}
	if ctx.Err() != nil {
		return
	}
	d.report(Checking, CheckAmcheck, 0, 0)
	began := time.Now()
	looked, left, err := d.openAll(ctx, list)
	if err != nil {
		d.fail(ctx, CheckAmcheck, "pg_amcheck cannot be run: "+err.Error(), nil, time.Since(began).Seconds())
		return
	}
	server := d.outcome.Server
	args := []string{
		"--no-password", "--host=" + server.SocketDirectory, "--port=" + strconv.Itoa(server.Port), "--username=" + d.role,
		"--maintenance-db=dbname=" + quoteConninfo(d.entered), "--all", "--install-missing", "--heapallindexed", "--parent-check",
	}
	if d.Jobs > 0 {
		args = append(args, "--jobs="+strconv.Itoa(d.Jobs))
	}
	var options []string
	for name, value := range session {
		options = append(options, "-c "+name+"="+value)
	}
	slices.Sort(options)
	cmd := scratch.Client(ctx, d.BinDir, "pg_amcheck", args...)
	cmd.Env = append(cmd.Env, "PGOPTIONS="+strings.Join(options, " "))
	said, code, err := output(cmd)
	seconds := time.Since(began).Seconds()
	text := fmt.Sprintf("every table and index of %s is sound, and every index has all rows of its table", strings.Join(looked, ", "))
	if len(left) > 0 {
		text += "; left out: " + strings.Join(left, ", ")
	}
	switch {
	case err == nil:
		d.record.add(Check{Name: CheckAmcheck, State: Passed, Text: text, Seconds: seconds})
	case errors.Is(err, fs.ErrNotExist):
		d.fail(ctx, CheckAmcheck, "pg_amcheck is not there: "+err.Error()+"; install the client programs and contrib of the server, or leave it out with --skip amcheck", nil, seconds)
	case code == 2:
		d.fail(ctx, CheckAmcheck, "tables or indexes are corrupt: "+firstLine(said), said, seconds)
	default:
		d.fail(ctx, CheckAmcheck, "pg_amcheck failed: "+firstLine(said), said, seconds)
	}
}

// openAll makes all databases ready to be looked at, and tells which they are, and which
// cannot be.
func (d *drill) openAll(ctx context.Context, list []database) (looked, left []string, err error) {
	conn, err := scratch.Connect(ctx, d.outcome.Server, d.entered, d.role, session)
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, db := range list {
		if db.invalid {
			left = append(left, db.name+" (its DROP DATABASE was cut off)")
			continue
		}
		if !db.connect {
			if _, err := scratch.Query(ctx, conn, "ALTER DATABASE "+scratch.QuoteIdentifier(db.name)+" ALLOW_CONNECTIONS true"); err != nil {
				return nil, nil, fmt.Errorf("database %q: %w", db.name, err)
			}
		}
		if err := d.releaseLocks(ctx, db.name); err != nil {
			return nil, nil, fmt.Errorf("database %q: %w", db.name, err)
		}
		looked = append(looked, db.name)
	}
	return looked, left, nil
}

// releaseLocks rolls back transactions that are left prepared.
func (d *drill) releaseLocks(ctx context.Context, name string) error {
	conn, err := scratch.Connect(ctx, d.outcome.Server, name, d.role, session)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rolled, err := scratch.RollBackPrepared(ctx, conn)
	for _, gid := range rolled {
		d.warn(fmt.Sprintf("transaction %q was left prepared in database %s: in the copy it was rolled back for pg_amcheck", gid, name))
	}
	return err
}

// checkChecksums shuts the server down and lets pg_checksums read all pages.
func (d *drill) checkChecksums(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	d.report(Checking, CheckChecksums, 0, 0)
	began := time.Now()
	data := d.scratch.Path(scratch.DataName)
	if slices.Contains(d.Skip, CheckChecksums) {
		d.record.add(Check{Name: CheckChecksums, State: Skipped, Text: "pg_checksums was not run: it was skipped"})
		return
	}
	if c, err := control.ReadDirectory(data); err == nil && c.DataChecksumVersion == 0 {
		d.record.add(Check{Name: CheckChecksums, State: Skipped, Text: "the cluster has no data checksums, so that pages that were damaged on disk cannot be told by them; pg_checksums --enable turns them on"})
		return
	}
	if err := recovery.ShutDown(ctx, recovery.Options{Directory: data, BinDir: d.BinDir, Wrapped: d.containers != nil}); err != nil {
		d.fail(ctx, CheckChecksums, "the server cannot be shut down for pg_checksums: "+err.Error(), nil, time.Since(began).Seconds())
		return
	}
	said, _, err := output(scratch.Client(ctx, d.BinDir, "pg_checksums", "--check", "-D", data))
	seconds := time.Since(began).Seconds()
	switch {
	case err == nil:
		d.record.add(Check{Name: CheckChecksums, State: Passed, Text: "every page has its checksum: " + blocks(said), Seconds: seconds})
	case errors.Is(err, fs.ErrNotExist):
		d.fail(ctx, CheckChecksums, "pg_checksums is not there: "+err.Error()+"; leave it out with --skip checksums", nil, seconds)
	default:
		d.fail(ctx, CheckChecksums, "pages do not have their checksums: "+firstLine(said), said, seconds)
	}
}

// blocks is how many pages pg_checksums has read.
func blocks(said []string) string {
	for _, line := range said {
		if n, ok := strings.CutPrefix(line, "Blocks scanned:"); ok {
			return strings.TrimSpace(n) + " pages"
		}
	}
	return "all"
}

// beginning keeps the first bytes that are written to it: of a cluster that is corrupt all over
// there is no end of messages.
type beginning struct{ kept []byte }

const outputKept = 64 << 10

func (b *beginning) Write(p []byte) (int, error) {
	b.kept = append(b.kept, p[:min(len(p), outputKept-len(b.kept))]...)
	return len(p), nil
}

// output runs a program and returns what it said, by lines, and its exit code.
func output(cmd *exec.Cmd) (lines []string, code int, err error) {
	if _, err := os.Stat(cmd.Path); err != nil {
		return nil, -1, err
	}
	var said beginning
	cmd.Stdout, cmd.Stderr = &said, &said
	err = cmd.Run()
	for line := range strings.SplitSeq(strings.TrimSpace(string(said.kept)), "\n") {
		if line = strings.TrimRight(line, " \r"); line != "" {
			lines = append(lines, line)
		}
	}
	return lines, cmd.ProcessState.ExitCode(), err
}

// firstLine is the first thing that a program said, with the line that explains it.
func firstLine(said []string) string {
	if len(said) == 0 {
		return "it said nothing"
	}
	s := strings.TrimSpace(said[0])
	if len(said) > 1 && strings.HasSuffix(s, ":") {
		s += " " + strings.TrimSpace(said[1])
	}
	return s
}

// quoteConninfo writes a value in a connection string.
func quoteConninfo(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

// checkAssertions runs the user's statements.
func (d *drill) checkAssertions(ctx context.Context, list []database) {
	for _, a := range d.Assertions {
		if ctx.Err() != nil {
			return
		}
		name := a.Name
		if name == "" {
			name = strings.Join(strings.Fields(a.SQL), " ")
		}
		d.report(Checking, CheckAssertion, 0, 0)
		began := time.Now()
		in, err := d.databaseFor(a, list)
		if err == nil {
			err = d.assert(ctx, in, a.SQL)
		}
		seconds := time.Since(began).Seconds()
		if err != nil {
			d.fail(ctx, CheckAssertion, fmt.Sprintf("an assertion failed: %s: %v", name, err), nil, seconds)
			continue
		}
		d.record.add(Check{Name: CheckAssertion, State: Passed, Seconds: seconds, Text: fmt.Sprintf("%s, in database %s", name, in)})
	}
}

// databaseFor is where an assertion runs.
func (d *drill) databaseFor(a Assertion, list []database) (string, error) {
	for _, name := range []string{a.Database, d.Database} {
		if name == "" {
			continue
		}
		if !slices.ContainsFunc(list, func(db database) bool { return db.name == name }) {
			return "", fmt.Errorf("there was no database %q at that moment", name)
		}
		return name, nil
	}
	var own []string
	for _, db := range list {
		if db.own && !db.invalid {
			own = append(own, db.name)
		}
	}
	switch len(own) {
	case 0:
		return "postgres", nil
	case 1:
		return own[0], nil
	}
	return "", fmt.Errorf("which database? there are %s: name one with --database", strings.Join(own, ", "))
}

const boolOID = 16

// assert runs one statement, which must begin with true.
func (d *drill) assert(ctx context.Context, name, sql string) error {
	options := map[string]string{"default_transaction_read_only": "on"}
	for k, v := range session {
		options[k] = v
	}
	conn, err := scratch.Connect(ctx, d.outcome.Server, name, d.role, options)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	r := conn.ExecParams(ctx, sql, nil, nil, nil, nil).Read()
	var failed *pgconn.PgError
	switch {
	case errors.As(r.Err, &failed):
		return fmt.Errorf("the server says %s (SQLSTATE %s)", failed.Message, failed.Code)
	case r.Err != nil:
		return r.Err
	case len(r.FieldDescriptions) == 0 || r.FieldDescriptions[0].DataTypeOID != boolOID:
		return errors.New("its first column is no boolean")
	case len(r.Rows) == 0:
		return errors.New("it returned no row")
	case string(r.Rows[0][0]) != "t":
		return fmt.Errorf("it is %s, and should be true", map[string]string{"f": "false", "": "null"}[string(r.Rows[0][0])])
	}
	return nil
}
