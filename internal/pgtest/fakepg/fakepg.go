// Package fakepg is a scripted PostgreSQL server for tests: it accepts
// connections, speaks the start-up, and leaves the rest to the test.
package fakepg

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Server listens until the test ends.
type Server struct {
	listener net.Listener
	wg       sync.WaitGroup
	mu       sync.Mutex
	conns    map[net.Conn]bool
	queries  []string
}

// Conn is one connection to the server.
type Conn struct {
	*pgproto3.Backend
	// Parameters are those of the start-up message.
	Parameters map[string]string
	conn       net.Conn
	server     *Server
}

// Handler answers one query. It returns false to close the connection.
type Handler func(c *Conn, sql string) bool

// New starts a server that hands every query of every connection to handle.
func New(t testing.TB, handle Handler) *Server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{listener: listener, conns: map[net.Conn]bool{}}
	s.wg.Go(func() { s.accept(handle) })
	t.Cleanup(s.close)
	return s
}

// Conninfo is how to connect.
func (s *Server) Conninfo() string {
	host, port, _ := net.SplitHostPort(s.listener.Addr().String())
	return fmt.Sprintf("host=%s port=%s user=walden dbname=walden sslmode=disable", host, port)
}

// Queries are all that were received so far.
func (s *Server) Queries() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.queries...)
}

// Open is how many connections there are.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

func (s *Server) forget(conn net.Conn) {
	_ = conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
}

// Disconnect ends all connections, whatever they are doing.
func (s *Server) Disconnect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.Close()
	}
}

// Stop ends all connections, and takes none any more.
func (s *Server) Stop() {
	_ = s.listener.Close()
	s.Disconnect()
}

func (s *Server) close() {
	s.Stop()
	s.wg.Wait()
}

func (s *Server) accept(handle Handler) {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[conn] = true
		s.mu.Unlock()
		s.wg.Go(func() {
			defer s.forget(conn)
			c := &Conn{Backend: pgproto3.NewBackend(conn, conn), conn: conn, server: s}
			if c.startup() == nil {
				c.serve(handle)
			}
		})
	}
}

func (c *Conn) startup() error {
	msg, err := c.ReceiveStartupMessage()
	if err != nil {
		return err
	}
	start, ok := msg.(*pgproto3.StartupMessage)
	if !ok {
		return errors.New("no start-up") // a cancel request
	}
	c.Parameters = start.Parameters
	c.Send(&pgproto3.AuthenticationOk{})
	c.Send(&pgproto3.ParameterStatus{Name: "in_hot_standby", Value: "off"})
	c.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{0, 0, 0, 1}})
	c.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	return c.Flush()
}

func (c *Conn) serve(handle Handler) {
	for {
		msg, err := c.Receive()
		if err != nil {
			return
		}
		q, ok := msg.(*pgproto3.Query)
		if !ok {
			if _, bye := msg.(*pgproto3.Terminate); bye {
				return
			}
			continue
		}
		c.server.mu.Lock()
		c.server.queries = append(c.server.queries, q.String)
		c.server.mu.Unlock()
		if !handle(c, q.String) {
			_ = c.Flush()
			return
		}
		if c.Flush() != nil {
			return
		}
	}
}

// Rows sends a result set; a nil is NULL. It does not send ReadyForQuery.
func (c *Conn) Rows(columns string, rows ...[]any) {
	var d pgproto3.RowDescription
	for name := range strings.SplitSeq(columns, " ") {
		d.Fields = append(d.Fields, pgproto3.FieldDescription{Name: []byte(name), DataTypeOID: 25, DataTypeSize: -1, TypeModifier: -1})
	}
	c.Send(&d)
	for _, row := range rows {
		var r pgproto3.DataRow
		for _, v := range row {
			if v == nil {
				r.Values = append(r.Values, nil)
			} else {
				r.Values = append(r.Values, fmt.Append(nil, v))
			}
		}
		c.Send(&r)
	}
	c.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT")})
}

// Ready ends the answer to a query.
func (c *Conn) Ready() { c.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'}) }

// Error sends an error of the server, and with it the end of the answer.
func (c *Conn) Error(code, message string) {
	c.Send(&pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: code, Message: message})
	c.Ready()
}

// Warning sends a warning.
func (c *Conn) Warning(message string) {
	c.Send(&pgproto3.NoticeResponse{Severity: "WARNING", SeverityUnlocalized: "WARNING", Code: "01000", Message: message})
}

// Data sends one CopyData message.
func (c *Conn) Data(b []byte) { c.Send(&pgproto3.CopyData{Data: b}) }
