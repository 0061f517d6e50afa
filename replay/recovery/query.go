//go:build unix

package recovery

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walden-pg/walden/wal"
)

// position is what a server in recovery says about itself.
type position struct {
	lsn      wal.LSN
	lastTime time.Time
}

// session is the connection over which a server is asked for its position.
type session struct {
	owner          *owner
	user, database string
	conn           *pgconn.PgConn
	failures       int
	err            error // of the last attempt
}

// maxFailures is how often a session is tried: a server that asks for a
// password will do so again, and each attempt is a line in its log.
const maxFailures = 3

const positionQuery = `select pg_last_wal_replay_lsn()::text, ` +
	`(extract(epoch from pg_last_xact_replay_timestamp()) * 1000000)::bigint::text`

// ask returns the position, connecting first if need be.
func (s *session) ask(ctx context.Context, server *Server) (position, error) {
	if s.failures >= maxFailures {
		return position{}, s.err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	p, err := s.query(ctx, server)
	if err != nil {
		s.close()
		s.failures++
		s.err = err
	}
	return p, err
}

func (s *session) query(ctx context.Context, server *Server) (position, error) {
	if s.conn == nil {
		if err := s.connect(ctx, server); err != nil {
			return position{}, err
		}
	}
	results, err := s.conn.Exec(ctx, positionQuery).ReadAll()
	if err != nil {
		return position{}, err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) != 2 {
		return position{}, errors.New("unexpected answer about the replay position")
	}
	row := results[0].Rows[0]
	if row[0] == nil {
		return position{}, errors.New("the server has no replay position")
	}
	var p position
	if p.lsn, err = wal.ParseLSN(string(row[0])); err != nil {
		return position{}, err
	}
	if row[1] != nil {
		micros, err := strconv.ParseInt(string(row[1]), 10, 64)
		if err != nil {
			return position{}, err
		}
		p.lastTime = time.UnixMicro(micros).UTC()
	}
	return p, nil
}

func (s *session) connect(ctx context.Context, server *Server) error {
	if server == nil || server.SocketDirectory == "" {
		return errors.New("the server has no socket")
	}
	// Host and port are given apart: a path may hold what a connection string
	// would need quoted.
	config, err := pgconn.ParseConfig("sslmode=disable application_name=walden")
	if err != nil {
		return fmt.Errorf("environment for a connection: %w", err)
	}
	config.Host, config.Port = server.SocketDirectory, uint16(server.Port)
	config.User, config.Database = s.user, s.database
	config.Fallbacks, config.TLSConfig = nil, nil
	config.ValidateConnect, config.AfterConnect = nil, nil
	config.DialFunc = s.owner.dial
	s.conn, err = pgconn.ConnectConfig(ctx, config)
	return err
}

func (s *session) close() {
	if s.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = s.conn.Close(ctx) // the server will notice either way
	s.conn = nil
}
