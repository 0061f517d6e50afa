// Package s3test starts S3 servers for tests.
package s3test

import "testing"

// Server is a running S3 server with one empty bucket.
type Server struct {
	Endpoint, Bucket, AccessKey, SecretKey string
	stop, restart                          func()
}

// Start starts a server, or makes a new bucket on the one that runs.
func Start(t testing.TB) *Server { t.Helper(); t.Fatal("s3test: not written yet"); return nil }

// Stop stops the server.
func (s *Server) Stop() { s.stop() }

// Restart starts a stopped server again, with its data.
func (s *Server) Restart() { s.restart() }
