package basebackup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"
)

// Defaults of Options.
const defaultWALTimeout = time.Minute

// taker is one run of Take.
type taker struct {
	o        Options
	id       string
	start    time.Time
	identity Identity
	facts    Facts
	reserved Reservation // nil if the server would not hold WAL
	warnings []string
	progress progress

	packs  *packer
	shards *sharder
	got    recorded
	// published is set before the manifest is written: from then on nothing
	// may be removed, since the store may hold it whatever it answered.
	published bool
}

func newTaker(o Options) (*taker, error) {
	if o.Repo == nil || o.Archive == nil || o.Source == nil || o.Server == nil {
		return nil, errors.New("base backup: repository, archive, source and server are needed")
	}
	if o.WALTimeout <= 0 {
		o.WALTimeout = defaultWALTimeout
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.packSize == 0 {
		o.packSize = maxPackRaw
	}
	if o.now == nil {
		o.now = time.Now
	}
	return &taker{o: o, start: o.now().UTC().Truncate(time.Millisecond)}, nil
}

func (t *taker) take(ctx context.Context) (*Manifest, error) {
	if err := t.identify(ctx); err != nil {
		return nil, err
	}
	if err := t.claim(ctx); err != nil {
		return nil, fmt.Errorf("claim a backup: %w", err)
	}
	m, err := t.run(ctx)
	if err == nil {
		return m, nil
	}
	if ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
		err = fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	t.cleanUp(ctx)
	return nil, fmt.Errorf("backup %s: %w", t.id, err)
}

// run does everything between claim and manifest.
func (t *taker) run(ctx context.Context) (*Manifest, error) {
	t.packs = newPacker(ctx, t.o.Repo, t.o.Incarnation, t.id, t.o.packSize)
	t.shards = &sharder{ctx: ctx, repo: t.o.Repo, inc: t.o.Incarnation, id: t.id, limit: maxShardEntries}
	defer t.packs.abort()
	defer t.shards.abort()
	t.packs.onDone = t.progress.stored

	// WAL is held from before the backup begins, so that what it needs cannot
	// be gone by its end.
	if err := t.reserve(ctx); err != nil {
		return nil, err
	}
	defer t.release()
	facts, err := t.o.Server.Facts(ctx)
	if err != nil {
		return nil, err
	}
	t.facts = facts
	t.warn(facts.Warnings...)
	if t.o.Names != nil {
		t.warn(t.o.Names(ctx)...)
	}

	if err := t.copy(ctx); err != nil {
		return nil, err
	}
	m := t.manifest()
	t.progress.phase(PhaseVerifying, "")
	if err := t.compare(ctx, m); err != nil {
		return nil, err
	}
	t.progress.phase(PhaseWAL, "")
	if err := t.secureWAL(ctx, m.WALRanges); err != nil {
		return nil, err
	}
	t.progress.phase(PhasePublishing, "")
	m.StopTime = t.o.now().UTC().Truncate(time.Millisecond)
	m.Warnings = t.warnings
	return m, t.publish(ctx, m)
}

// reserve makes the server hold its WAL. Where the server archives, the
// archive will hold it as a rule, and the backup goes on without.
func (t *taker) reserve(ctx context.Context) error {
	r, err := t.o.Server.Reserve(ctx)
	if err == nil {
		t.reserved = r
		return nil
	}
	if ctx.Err() != nil || t.identity.ArchiveMode == "off" {
		return fmt.Errorf("the server does not archive (archive_mode is off), and a replication slot to hold the WAL of the backup cannot be had: %w", err)
	}
	t.warn(fmt.Sprintf("no replication slot to hold the WAL of the backup, it must come through the archive: %v", err))
	return nil
}

func (t *taker) release() {
	if t.reserved == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := t.reserved.Close(ctx); err != nil {
		t.o.Logger.Warn("the replication slot of the backup was not released cleanly; it ends with its connection", "error", err)
	}
}

// copy receives and stores everything.
func (t *taker) copy(ctx context.Context) error {
	t.progress.phase(PhaseCheckpoint, "")
	label := t.o.Label
	if label == "" {
		label = "walden " + t.id
	}
	err := t.o.Source.Run(ctx, SourceOptions{Label: label, Checkpoint: t.o.Checkpoint, MaxRate: t.o.MaxRate}, &recorder{t})
	if err != nil {
		return err
	}
	if err := t.got.complete(); err != nil {
		return err
	}
	t.warn(t.got.end.Warnings...)
	t.chooseConfigFiles()
	for _, c := range t.facts.ConfigFiles {
		e := FileEntry{Path: c.Path, Kind: KindConfig, Size: int64(len(c.Content))}
		if err := t.store(e, bytes.NewReader(c.Content)); err != nil {
			return fmt.Errorf("store %s: %w", c.Path, err)
		}
	}
	if err := t.packs.close(); err != nil {
		return err
	}
	return t.shards.close()
}

// chooseConfigFiles leaves those that are to be saved: what lies outside the
// data directory, and if the server did not send all that lies within, that too,
// since such files refer to each other.
func (t *taker) chooseConfigFiles() {
	unsent := func(c ConfigFile) bool { return c.Within != "" && !t.got.sent[c.Within] }
	some := slices.ContainsFunc(t.facts.ConfigFiles, unsent)
	t.facts.ConfigFiles = slices.DeleteFunc(t.facts.ConfigFiles, func(c ConfigFile) bool {
		if c.Unread && unsent(c) {
			t.warn(fmt.Sprintf("configuration file %s is not saved: the server does not send symbolic links, and the file cannot be read by this role", c.Path))
		}
		return c.Within != "" && !some || c.Unread
	})
}

// store writes a file's bytes into packs and its entry into a shard.
func (t *taker) store(e FileEntry, r io.Reader) error {
	if err := t.packs.add(&e, r); err != nil {
		return err
	}
	if err := t.shards.add(e); err != nil {
		return err
	}
	if e.Path == ManifestPath {
		t.got.serverManifest = e
	}
	t.got.files++
	t.got.bytes += e.Size
	t.progress.file()
	return nil
}

// compare reads back the server's manifest and all shards from the repository,
// holds them against each other, and learns what WAL the backup needs.
func (t *taker) compare(ctx context.Context, m *Manifest) error {
	r := OpenFile(ctx, t.o.Repo, t.o.Incarnation, m, t.got.serverManifest)
	defer r.Close()
	server, err := compareFiles(r, ReadFiles(ctx, t.o.Repo, t.o.Incarnation, m))
	if err != nil {
		return err
	}
	if server.systemID != 0 && server.systemID != m.SystemID {
		return &FormatError{Object: ManifestPath, Reason: fmt.Sprintf("it is of a cluster with system identifier %d", server.systemID)}
	}
	m.WALRanges, err = orderRanges(server.ranges, t.got.start, t.got.end)
	return err
}

func (t *taker) warn(warnings ...string) {
	for _, w := range warnings {
		t.o.Logger.Warn(w, "backup", t.id)
	}
	t.warnings = append(t.warnings, warnings...)
}
