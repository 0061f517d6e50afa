package protocol

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walden-pg/walden/basebackup"
)

// maxConfigFile bounds a configuration file, maxConfigFiles their number, and
// maxConfigTotal what they take together, since they are held in memory.
const (
	maxConfigFile  = 16 << 20
	maxConfigTotal = 64 << 20
	maxConfigFiles = 1000
)

// readConfigFiles reads the configuration files: those outside the data
// directory, which BASE_BACKUP does not send, and those within, in case that it
// does not send them either since they are symbolic links. Of the latter
// nothing is said if they may not be read: as a rule they are sent.
func (f *factFinder) readConfigFiles(ctx context.Context) {
	dir, ok := f.facts.Settings["data_directory"]
	if !ok || ctx.Err() != nil {
		return
	}
	names := f.configFiles(ctx)
	f.mayRead = f.askMayRead(ctx)
	mayBeMissing := map[string]bool{}
	refused, total := false, 0
	for i := 0; i < len(names) && ctx.Err() == nil; i++ {
		if i == maxConfigFiles || total > maxConfigTotal-maxConfigFile {
			f.warn("of the configuration files only %d are saved, with %d bytes; not %s", i, total, names[i])
			break
		}
		c := basebackup.ConfigFile{Path: names[i], Within: within(dir, names[i])}
		content, err := f.readFile(ctx, c.Path)
		switch {
		case err == nil:
			c.Content = content
			total += len(content)
			for _, include := range basebackup.Includes(content) {
				name := resolve(c.Path, include.Path)
				if include.Kind != basebackup.IncludeDirectory && !slices.Contains(names, name) {
					names = append(names, name)
					mayBeMissing[name] = include.Kind == basebackup.IncludeIfExists
				}
			}
		case c.Within != "":
			c.Unread = true
		case denied(err):
			if !refused {
				refused = true
				f.warn("%s and other configuration files outside the data directory are not saved; run: GRANT pg_read_server_files TO %s; "+
					"GRANT EXECUTE ON FUNCTION pg_read_binary_file(text, bigint, bigint, boolean) TO %s (in database %s)",
					c.Path, quoteIdentifier(f.user), quoteIdentifier(f.user), f.database(ctx))
			}
			continue
		default:
			if !mayBeMissing[c.Path] || !absent(err) {
				f.warn("configuration file %s is not saved: %v", c.Path, err)
			}
			continue
		}
		f.facts.ConfigFiles = append(f.facts.ConfigFiles, c)
	}
	slices.SortFunc(f.facts.ConfigFiles, func(a, b basebackup.ConfigFile) int { return strings.Compare(a.Path, b.Path) })
}

// errDenied stands for what the server would answer, were it asked.
var errDenied = &pgconn.PgError{Code: "42501"}

// askMayRead reports whether the role may call the function that reads files.
// Whether it may read a file is another matter; but a role that was given
// nothing shall not leave errors in the server's log with every backup.
func (f *factFinder) askMayRead(ctx context.Context) bool {
	rows, err := f.query(ctx, "SELECT has_function_privilege('pg_read_binary_file(text, bigint, bigint, boolean)', 'EXECUTE')")
	return err != nil || len(rows) != 1 || rows[0][0] == "t"
}

func denied(err error) bool { return hasCode(err, "42501") } // insufficient_privilege

func absent(err error) bool { return hasCode(err, "58P01") } // undefined_file

func hasCode(err error, code string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == code
}

// configFiles lists the configuration files that the server names. Files that
// set nothing are not among them, even if they are included and must exist.
func (f *factFinder) configFiles(ctx context.Context) []string {
	found := map[string]bool{}
	for _, name := range []string{"config_file", "hba_file", "ident_file"} {
		found[f.facts.Settings[name]] = true
	}
	// Files that are included by others. The views on pg_hba.conf and
	// pg_ident.conf name their files since 16.
	f.included(ctx, found, "SELECT DISTINCT sourcefile FROM pg_file_settings WHERE sourcefile IS NOT NULL", "pg_file_settings", "pg_show_all_file_settings()")
	if version, _ := strconv.Atoi(f.facts.Settings["server_version_num"]); version >= 160000 {
		f.included(ctx, found, "SELECT DISTINCT file_name FROM pg_hba_file_rules WHERE file_name IS NOT NULL", "pg_hba_file_rules", "pg_hba_file_rules()")
		f.included(ctx, found, "SELECT DISTINCT file_name FROM pg_ident_file_mappings WHERE file_name IS NOT NULL", "pg_ident_file_mappings", "pg_ident_file_mappings()")
	}
	var names []string
	for name := range found {
		// The server's own file, which it never seeks anywhere else.
		if name != "" && path.Base(slashes(name)) != "postgresql.auto.conf" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (f *factFinder) included(ctx context.Context, found map[string]bool, sql, view, function string) {
	rows, err := f.query(ctx, sql)
	if denied(err) {
		f.warn("included configuration files outside the data directory may be missing; run: GRANT SELECT ON %s TO %s; GRANT EXECUTE ON FUNCTION %s TO %s (in database %s)",
			view, quoteIdentifier(f.user), function, quoteIdentifier(f.user), f.database(ctx))
		return
	}
	if err != nil {
		f.warn("included configuration files may be missing: %s: %v", view, err)
		return
	}
	for _, row := range rows {
		found[row[0]] = true
	}
}

func slashes(s string) string { return strings.ReplaceAll(s, `\`, "/") }

// within tells where in dir a file lies, on a server of any system; "" if it does not.
func within(dir, file string) string {
	rel, ok := strings.CutPrefix(path.Clean(slashes(file)), strings.TrimSuffix(path.Clean(slashes(dir)), "/")+"/")
	if !ok {
		return ""
	}
	return rel
}

// resolve finds the file that another one includes (AbsoluteConfigLocation, conffiles.c).
func resolve(from, name string) string {
	if s := slashes(name); path.IsAbs(s) || len(s) > 2 && s[1] == ':' && s[2] == '/' {
		return name
	}
	return path.Join(path.Dir(slashes(from)), slashes(name))
}

// readFile reads a whole file of the server. One byte too many is asked for,
// so that a file that is too large is noticed.
func (f *factFinder) readFile(ctx context.Context, name string) ([]byte, error) {
	if !f.mayRead {
		return nil, errDenied
	}
	r := f.conn.ExecParams(ctx, "SELECT pg_read_binary_file($1, 0, $2, false)",
		[][]byte{[]byte(name), []byte(strconv.Itoa(maxConfigFile + 1))}, nil, nil, []int16{1}).Read()
	if r.Err != nil {
		return nil, r.Err
	}
	if len(r.Rows) != 1 || len(r.Rows[0]) != 1 {
		return nil, errors.New("the server's answer is not one value")
	}
	if len(r.Rows[0][0]) > maxConfigFile {
		return nil, fmt.Errorf("it is larger than %d bytes", maxConfigFile)
	}
	return r.Rows[0][0], nil
}
