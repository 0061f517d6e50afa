package server

import (
	"context"
	"errors"
	"reflect"

	"github.com/jackc/pgx/v5/pgconn"
)

// Why a server is passed over for another of the connection string.
var (
	errReadOnly  = errors.New("it is read-only")
	errReadWrite = errors.New("it is not read-only")
	errPrimary   = errors.New("it is a primary")
	errStandby   = errors.New("it is a standby")
)

// replicationAttrs makes the check of target_session_attrs one that works on
// replication connections, where the library's, which sends SQL, does not: like
// libpq with servers from 14 on, it goes by what they report by themselves.
func replicationAttrs(cfg *pgconn.Config) {
	checks := []struct {
		library pgconn.ValidateConnectFunc
		reason  func(standby, readOnly bool) error
	}{
		{pgconn.ValidateConnectTargetSessionAttrsReadWrite, func(standby, readOnly bool) error { return when(standby || readOnly, errReadOnly) }},
		{pgconn.ValidateConnectTargetSessionAttrsReadOnly, func(standby, readOnly bool) error { return when(!standby && !readOnly, errReadWrite) }},
		{pgconn.ValidateConnectTargetSessionAttrsPrimary, func(standby, _ bool) error { return when(standby, errStandby) }},
		{pgconn.ValidateConnectTargetSessionAttrsStandby, func(standby, _ bool) error { return when(!standby, errPrimary) }},
	}
	if cfg.ValidateConnect == nil {
		return
	}
	// Functions can be compared by their address alone.
	wanted := reflect.ValueOf(cfg.ValidateConnect).Pointer()
	for _, c := range checks {
		if reflect.ValueOf(c.library).Pointer() == wanted {
			cfg.ValidateConnect = func(_ context.Context, conn *pgconn.PgConn) error {
				return c.reason(conn.ParameterStatus("in_hot_standby") == "on", conn.ParameterStatus("default_transaction_read_only") == "on")
			}
			return
		}
	}
	// prefer-standby, whose error the library alone can make: the first server that
	// answers will do.
	cfg.ValidateConnect = nil
}

func when(is bool, err error) error {
	if is {
		return err
	}
	return nil
}
