package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime/debug"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/walden-pg/walden/internal/config"
	"github.com/walden-pg/walden/internal/metrics"
	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/names"
	"github.com/walden-pg/walden/wal/stream"
)

const streamExitCodes = `   0    stopped; everything that was received is in the repository and acknowledged
   1    failed, could not ship everything in time, met a gap or a conflict, or received no WAL when it was stopped
   2    wrong usage
   4    no such repository or cluster
   5    busy: another walden stream uses the spool
   130  interrupted before it began`

func (e *environment) streamCommand() *cli.Command {
	return &cli.Command{
		Name:  "stream",
		Usage: "receives WAL as it is written and ships it to the repository",
		Description: "Runs until it is told to stop (SIGTERM, SIGINT); then it ships and acknowledges what it has.\n" +
			"The server, or the repository, may be away for as long as it takes: it is tried again for ever.\n" +
			"Where it begins is found in the repository: it can be started again anywhere.",
		CustomHelpTemplate: commandHelpTemplate(streamExitCodes),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "slot", Usage: "use the physical replication slot `NAME`, which is made where it is missing, on every host", DefaultText: "clusters.NAME.stream.slot, else walden"},
			&cli.StringFlag{Name: "acknowledge", Usage: "report WAL as flushed once it is in the repository (remote) or synced to the spool (local): `WHEN`", DefaultText: "clusters.NAME.stream.acknowledge, else remote"},
			&cli.StringFlag{Name: "max-delay", Usage: "let WAL wait for more, before it is uploaded, for `TIME` at most; where a commit waits for it it goes at once", DefaultText: "clusters.NAME.stream.max_delay, else 1s"},
			&cli.StringFlag{Name: "spool", Usage: "hold WAL in the directory `DIR` while the repository cannot be reached", DefaultText: "clusters.NAME.stream.spool, else none: the slot holds it on the server"},
			&cli.StringFlag{Name: "spool-limit", Usage: "let the spool grow to `SIZE`, as in 10GB", DefaultText: "clusters.NAME.stream.spool_limit, else 10GB"},
			&cli.StringFlag{Name: "metrics-listen", Usage: "serve /metrics for Prometheus, and /healthz, on `HOST:PORT`", DefaultText: "none"},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			return e.stream(c)
		},
	}
}

// streamRetry is how long the store itself tries again: the receiver does so for
// ever, and then its status says so.
const streamRetry = 5 * time.Second

// The receiver's memory: it shall stay below 64 MiB at full speed, of which the
// program itself takes a part.
const (
	streamHeap    = 36 << 20
	streamGC      = 50
	streamEncoded = 4 << 20 // of each object being uploaded, the rest goes by a temporary file
	streamWorkers = 1       // compressors of each object; a few objects are compressed at once
)

func (e *environment) stream(c *cli.Context) error {
	given, err := streamFlags(c)
	if err != nil {
		return err
	}
	line := e.newStatusLine()
	if line.terminal {
		e.stderr = line
	} else {
		e.logsOn() // nobody sees a status line
	}
	defer line.clear()
	t, err := e.selectCluster()
	if err != nil {
		return err
	}
	o, err := t.streamOptions(given)
	if err != nil {
		return err
	}
	var m *metrics.Server
	if a := c.String("metrics-listen"); a != "" {
		if m, err = metrics.Listen(c.Context, a); err != nil {
			return err
		}
		defer m.Close()
		t.log.Info("metrics are served", "address", m.Address())
	}
	defer limitMemory()()
	repo, incs, err := t.openForStream(c.Context)
	if err != nil {
		return err
	}
	inc := incs[len(incs)-1]
	o.Archive, o.Names, o.Logger = archive.New(repo, inc), names.NewTaker(repo, inc), t.log
	r, err := stream.New(o)
	if err != nil {
		return err
	}
	return e.runStream(c.Context, t, r, m, line)
}

// runStream receives, and shows how that goes.
func (e *environment) runStream(ctx context.Context, t *target, r *stream.Receiver, m *metrics.Server, line *statusLine) error {
	if m != nil {
		go func() {
			if err := m.ServeStream(t.name, r.Status); err != nil {
				t.log.Error("metrics are not served any more", "error", err)
			}
		}()
	}
	shown := make(chan struct{})
	stop := make(chan struct{})
	go func() {
		defer close(shown)
		line.follow(stop, t, r.Status)
	}()
	err := r.Run(ctx)
	close(stop)
	<-shown
	line.clear()
	var findings *stream.FindingsError
	var idle *stream.NotReceivingError
	found, stopped := errors.As(err, &findings), errors.As(err, &idle)
	if err != nil && !found && !stopped {
		return err
	}
	s := r.Status()
	if e.json {
		if jsonErr := e.printJSON(streamDocument{Cluster: t.name, Status: s}); jsonErr != nil {
			return jsonErr
		}
	} else {
		fmt.Fprint(e.stdout, streamSummary(s))
	}
	if err == nil {
		return nil
	}
	// The one document has been printed: what else there is to say is not another.
	if findings != nil {
		fmt.Fprintf(e.stderr, "walden: %v\n", findings)
	}
	if idle != nil {
		fmt.Fprintf(e.stderr, "walden: %v\n", idle)
		if hint := hintOf(idle); hint != "" {
			fmt.Fprintf(e.stderr, "  hint: %s\n", hint)
		}
	}
	return errFindings
}

type streamDocument struct {
	Cluster string `json:"cluster"`
	stream.Status
}

func streamSummary(s stream.Status) string {
	text := "nothing was received\n"
	if s.Timeline != 0 {
		text = streamPositions(s)
	}
	if s.Failure != "" {
		text += "  no WAL was being received at the end: " + s.Failure + "\n"
	}
	return text
}

func streamPositions(s stream.Status) string {
	return fmt.Sprintf("everything up to %s on timeline %s is in the repository; acknowledged to the server: %s\n  received %s; %d segments sealed, %d fragments uploaded, %d retries\n",
		s.Durable, s.Timeline, s.Acknowledged, size(s.ReceivedBytes), s.Segments, s.Fragments, s.Retries)
}

// streamFlags are the settings that the command line gives. What is wrong with
// one is wrong usage.
func streamFlags(c *cli.Context) (config.Stream, error) {
	s := config.Stream{
		Slot: c.String("slot"), Acknowledge: c.String("acknowledge"), MaxDelay: c.String("max-delay"),
		Spool: c.String("spool"), SpoolLimit: c.String("spool-limit"),
	}
	if _, err := s.Options(); err != nil {
		return s, flagError(err)
	}
	return s, nil
}

// flagError tells a setting's error as that of its flag.
func flagError(err error) error {
	var e *config.StreamError
	if !errors.As(err, &e) {
		return err
	}
	return usagef("--%s: %w", flagOf(e.Key), e.Err)
}

// flagOf is the flag of a configuration key.
func flagOf(key string) string {
	b := []byte(key)
	for i := range b {
		if b[i] == '_' {
			b[i] = '-'
		}
	}
	return string(b)
}

// streamOptions puts the flags over the configuration.
func (t *target) streamOptions(given config.Stream) (stream.Options, error) {
	var s config.Stream
	if t.cluster.Stream != nil {
		s = *t.cluster.Stream
	}
	s = s.Over(given)
	if err := s.Complete(); err != nil {
		return stream.Options{}, flagError(err) // the configuration alone was complete
	}
	o, err := s.Options()
	o.Conninfo, o.DataDirectory = t.cluster.Connection, t.cluster.DataDirectory
	return o, err
}

// openForStream opens the repository for a process that runs for long and shall
// take little memory. The repository is tried for as long as for any command.
func (t *target) openForStream(ctx context.Context) (*repository.Repository, []archive.Incarnation, error) {
	o := config.OpenOptions{Memory: streamEncoded, Workers: streamWorkers}
	deadline := time.Now().Add(t.config.Repository.RetryFor())
	for {
		repo, incs, err := t.openRepositoryWith(ctx, t.config.Repository.Within(streamRetry), o)
		if err == nil || ctx.Err() != nil || !storage.Retryable(err) || time.Now().After(deadline) {
			return repo, incs, err
		}
	}
}

// limitMemory makes the garbage collector prefer little memory, unless the user
// said what it shall do (GOGC, GOMEMLIMIT). The function it returns undoes that.
func limitMemory() (undo func()) {
	percent, limit := -2, int64(-1)
	if os.Getenv("GOGC") == "" {
		percent = debug.SetGCPercent(streamGC)
	}
	if debug.SetMemoryLimit(-1) == math.MaxInt64 {
		limit = debug.SetMemoryLimit(streamHeap)
	}
	return func() {
		if percent != -2 {
			debug.SetGCPercent(percent)
		}
		debug.SetMemoryLimit(limit) // -1 changes nothing
	}
}
