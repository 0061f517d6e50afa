package names

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walden-pg/walden/internal/server"
	"github.com/walden-pg/walden/wal"
)

// defaultDatabaseTimeout bounds the reading of one database.
const defaultDatabaseTimeout = 30 * time.Second

// Source says where to read the catalogues.
type Source struct {
	// Conninfo is a libpq connection string or URL. One connection at a time is made,
	// to one of its hosts: to the database it names, then to every other database
	// that allows connections.
	Conninfo string
	// Host is the one of Conninfo's hosts to read; nil: the first that will do.
	Host *server.Host
	// Timeline is what a standby replays, where that is known better than a standby
	// can say by SQL; 0: it is not. Of a primary it is not used.
	Timeline wal.TimelineID
	// DatabaseTimeout bounds the reading of one database; 0: 30 seconds. A DROP
	// DATABASE of the database that is being read waits for five seconds, then fails.
	DatabaseTimeout time.Duration
}

// UnreadError says that a database could not be read.
type UnreadError struct {
	Database string
	Err      error
}

// Error names the database and the reason.
func (e *UnreadError) Error() string {
	return fmt.Sprintf("the names in database %s cannot be read: %s", quote(e.Database), e.reason())
}

// Unwrap returns the cause.
func (e *UnreadError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *UnreadError) Hint() string {
	var connect *server.ConnectError
	var pg *pgconn.PgError
	switch {
	case errors.As(e.Err, &connect) && errors.As(e.Err, &pg) && pg.Code == "28000" && strings.Contains(pg.Message, "pg_hba.conf"):
		return fmt.Sprintf("add a line for user %q and database %s to pg_hba.conf, then SELECT pg_reload_conf()", connect.User, quote(e.Database))
	case errors.As(e.Err, &connect) && errors.As(e.Err, &pg) && pg.Code == "42501":
		return fmt.Sprintf("GRANT CONNECT ON DATABASE %s TO %s", quote(e.Database), quote(connect.User))
	case errors.As(e.Err, &connect):
		return connect.Hint()
	case errors.As(e.Err, &pg) && pg.Code == "42501":
		return "grant the role SELECT on pg_class, pg_namespace and pg_index there, which everybody has by default"
	}
	return ""
}

// reason is the cause without what every such message begins with.
func (e *UnreadError) reason() string {
	var pg *pgconn.PgError
	switch {
	case errors.As(e.Err, &pg):
		return pg.Message
	case errors.Is(e.Err, context.DeadlineExceeded):
		return "it takes too long"
	}
	return e.Err.Error()
}

// look is what one pass over the catalogues says.
type look struct {
	header
	host        server.Host
	tablespaces []Tablespace
	databases   []Database
	prints      [][]content // of each database, in ascending order
	unread      []*UnreadError
}

// Probe tries whether the names of every database can be read, and returns those
// that cannot. It stores nothing.
func Probe(ctx context.Context, src Source) ([]*UnreadError, error) {
	l, err := src.look(ctx)
	if err != nil {
		return nil, err
	}
	return l.unread, nil
}

// look reads the shared catalogues, and the fingerprints of every database.
func (src Source) look(ctx context.Context) (*look, error) {
	l, err := src.shared(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the names of databases: %w", err)
	}
	return l, src.each(ctx, l)
}

// each reads the fingerprints of every database that look has.
func (src Source) each(ctx context.Context, l *look) error {
	l.prints = make([][]content, len(l.databases))
	total := 0
	for i := range l.databases {
		db := &l.databases[i]
		if db.State == Unread {
			l.unread = append(l.unread, &UnreadError{db.Name, errors.New(db.Reason)})
		}
		if db.State != Read {
			continue
		}
		err := src.inDatabase(ctx, l.host, db.Name, func(ctx context.Context, conn *pgconn.PgConn) (err error) {
			l.prints[i], err = fingerprints(ctx, conn)
			if err == nil && total+len(l.prints[i]) > maxChunks {
				err = errors.New("there are more relations than a snapshot can hold")
			}
			return err
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			l.failed(i, err)
			continue
		}
		total += len(l.prints[i])
	}
	return nil
}

// failed notes that a database could not be read.
func (l *look) failed(i int, err error) {
	db := &l.databases[i]
	u := &UnreadError{db.Name, err}
	db.State, db.Reason, l.prints[i] = Unread, u.reason(), nil
	if len(db.Reason) > maxName {
		db.Reason = db.Reason[:maxName]
	}
	l.unread = append(l.unread, u)
}

// shared reads what all databases have in common.
func (src Source) shared(ctx context.Context) (*look, error) {
	ctx, cancel := context.WithTimeout(ctx, src.timeout())
	defer cancel()
	l := &look{}
	var conn *pgconn.PgConn
	var err error
	if src.Host != nil {
		l.host = *src.Host
		conn, err = server.ConnectHost(ctx, src.Conninfo, l.host, server.SQL, nil)
	} else {
		conn, l.host, err = server.ConnectFirst(ctx, src.Conninfo, server.SQL, nil)
	}
	if err != nil {
		return nil, err
	}
	defer disconnect(conn)
	results, err := rows(ctx, conn, "SET client_encoding = '"+encoding(conn)+"'; "+headerQuery+"; "+tablespacesQuery+"; "+databasesQuery)
	if err != nil {
		return nil, err
	}
	if len(results) != 4 || len(results[1]) != 1 {
		return nil, errForm
	}
	if l.header, err = src.header(results[1][0]); err != nil {
		return nil, err
	}
	if l.tablespaces, err = parseTablespaces(results[2]); err != nil {
		return nil, err
	}
	l.databases, err = parseDatabases(results[3])
	return l, err
}

func (src Source) header(row []string) (header, error) {
	h, err := parseHeader(row)
	if h.standby && src.Timeline != 0 {
		h.Timeline = src.Timeline
	}
	return h, err
}

// position asks once more where the server is.
func (src Source) position(ctx context.Context, host server.Host) (header, error) {
	ctx, cancel := context.WithTimeout(ctx, src.timeout())
	defer cancel()
	conn, err := server.ConnectHost(ctx, src.Conninfo, host, server.SQL, nil)
	if err != nil {
		return header{}, err
	}
	defer disconnect(conn)
	results, err := rows(ctx, conn, headerQuery)
	if err != nil {
		return header{}, err
	}
	if len(results) != 1 || len(results[0]) != 1 {
		return header{}, errForm
	}
	return src.header(results[0][0])
}

func (src Source) timeout() time.Duration {
	if src.DatabaseTimeout > 0 {
		return src.DatabaseTimeout
	}
	return defaultDatabaseTimeout
}

// inDatabase runs f on a connection to a database, in a transaction that only reads,
// within the time that is given to one.
func (src Source) inDatabase(ctx context.Context, host server.Host, name string, f func(context.Context, *pgconn.PgConn) error) error {
	ctx, cancel := context.WithTimeout(ctx, src.timeout())
	defer cancel()
	err := src.transaction(ctx, host, name, encoding, f)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (pg.Code == "22P05" || pg.Code == "22021") {
		// untranslatable_character, character_not_in_repertoire: as they are, then.
		return src.transaction(ctx, host, name, func(*pgconn.PgConn) string { return asIs }, f)
	}
	return err
}

// asIs is the client_encoding that converts nothing.
const asIs = "SQL_ASCII"

// encoding is the client_encoding for a database: UTF-8, into which names of unknown
// encoding cannot be converted.
func encoding(conn *pgconn.PgConn) string {
	if conn.ParameterStatus("server_encoding") == asIs {
		return asIs
	}
	return "UTF8"
}

func (src Source) transaction(ctx context.Context, host server.Host, name string, encoding func(*pgconn.PgConn) string, f func(context.Context, *pgconn.PgConn) error) error {
	conn, err := server.ConnectHost(ctx, server.WithDatabase(src.Conninfo, name), host, server.SQL, nil)
	if err != nil {
		return err
	}
	defer disconnect(conn)
	if _, err := rows(ctx, conn, begin(src.timeout(), encoding(conn))); err != nil {
		return err
	}
	return f(ctx, conn)
}

// disconnect says goodbye, without waiting long for a server that is gone.
func disconnect(conn *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // what was asked has been answered
}

func fingerprints(ctx context.Context, conn *pgconn.PgConn) ([]content, error) {
	results, err := rows(ctx, conn, printsQuery)
	if err != nil {
		return nil, err
	}
	if len(results) != 1 {
		return nil, errForm
	}
	return parsePrints(results[0])
}
