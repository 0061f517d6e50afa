package metrics

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/walden-pg/walden/wal/stream"
)

// ListenError says why the metrics cannot be served.
type ListenError struct{ Err error }

// Error names the address.
func (e *ListenError) Error() string { return "metrics: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *ListenError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *ListenError) Hint() string {
	return "give --metrics-listen an address of this machine and a port that is free, as in 127.0.0.1:9187"
}

// Server serves /metrics and /healthz.
type Server struct {
	listener net.Listener
	http     http.Server
}

// Listen takes the address HOST:PORT, so that one that is taken is told before
// anything else begins. Without a HOST it is every address of the machine. The
// error is a *ListenError.
func Listen(ctx context.Context, address string) (*Server, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, &ListenError{err}
	}
	return &Server{listener: l, http: http.Server{ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}}, nil
}

// Address is where it listens.
func (s *Server) Address() string { return s.listener.Addr().String() }

// ServeStream shows a receiver's status until Close.
func (s *Server) ServeStream(cluster string, status func() stream.Status) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(newStreamCollector(cluster, status), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 2}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { health(w, status()) })
	s.http.Handler = mux
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}

// health answers 200 while WAL is received and the repository takes it in time.
func health(w http.ResponseWriter, s stream.Status) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	switch {
	case s.Failure != "":
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = fmt.Fprintf(w, "%s: %s\n", s.Phase, s.Failure) // who asked may be gone
	case s.Phase != stream.Streaming:
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = fmt.Fprintf(w, "%s\n", s.Phase)
	case s.Overdue: // an upload can hang without an error
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = fmt.Fprintf(w, "%s: what was received has not been in the repository for %s\n", s.Phase, s.Delay.Round(time.Second))
	default:
		_, _ = fmt.Fprintln(w, "ok")
	}
}

// Close ends it at once.
func (s *Server) Close() {
	_ = s.http.Close()
	_ = s.listener.Close() // if it never served
}
