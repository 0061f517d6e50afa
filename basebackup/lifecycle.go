package basebackup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/storage/repository"
)

// IdentityError says that the server runs another cluster than the one whose
// backups these are.
type IdentityError struct {
	Cluster    string
	Have, Want string
}

// Error names both.
func (e *IdentityError) Error() string {
	return fmt.Sprintf("the server is not that of cluster %s in the repository: it has %s, not %s", e.Cluster, e.Have, e.Want)
}

// Hint says what to do.
func (e *IdentityError) Hint() string {
	return "if the connection is right, and the cluster was made anew or upgraded, run: walden init"
}

// identify asks the server who it is and refuses the wrong one.
func (t *taker) identify(ctx context.Context) error {
	id, err := t.o.Server.Identify(ctx)
	if err != nil {
		return fmt.Errorf("base backup: %w", err)
	}
	t.identity = id
	if id.SegmentSize != t.o.Incarnation.SegmentSize {
		return &IdentityError{
			Cluster: t.o.Incarnation.Cluster,
			Have:    "WAL segments of " + id.SegmentSize.String(), Want: t.o.Incarnation.SegmentSize.String(),
		}
	}
	return t.checkSystem(id.SystemID, id.ServerVersion)
}

func (t *taker) checkSystem(systemID uint64, version int) error {
	inc := t.o.Incarnation
	if systemID != inc.SystemID {
		return &IdentityError{
			Cluster: inc.Cluster,
			Have:    fmt.Sprintf("system identifier %d", systemID), Want: fmt.Sprint(inc.SystemID),
		}
	}
	if major := version / 10000; inc.Major != 0 && major != inc.Major {
		return &IdentityError{
			Cluster: inc.Cluster,
			Have:    fmt.Sprintf("major version %d", major), Want: fmt.Sprint(inc.Major),
		}
	}
	return nil
}

// maxClaims is how often another id is tried; ids meet only if two backups
// begin in the same second and draw the same lot.
const maxClaims = 5

// claim takes an id and says durably that a backup is under way.
func (t *taker) claim(ctx context.Context) error {
	host, _ := os.Hostname()
	for attempt := 1; ; attempt++ {
		t.id = newID(t.start)
		raw, err := json.Marshal(Claim{
			Format: FormatVersion, ID: t.id, Cluster: t.o.Incarnation.Cluster,
			Host: host, PID: os.Getpid(), Start: t.start, Walden: t.o.Version,
		})
		if err != nil {
			return err
		}
		_, err = t.o.Repo.Put(ctx, ClaimKey(t.o.Incarnation, t.id), raw, repository.ObjectOptions{Kind: frame.KindClaim})
		if err == nil {
			t.progress = newProgress(t.id, t.o.Progress, t.o.now)
			return nil
		}
		if !errors.Is(err, storage.ErrExist) || attempt == maxClaims {
			return err
		}
	}
}

// manifest writes down what the backup is, all but its WAL ranges and its end.
func (t *taker) manifest() *Manifest {
	g, inc := &t.got, t.o.Incarnation
	m := &Manifest{
		Format: FormatVersion, ID: t.id, Walden: t.o.Version,
		Cluster: inc.Cluster, SystemID: inc.SystemID, SegmentSize: inc.SegmentSize,
		Major: g.start.ServerVersion / 10000, ServerVersion: g.start.ServerVersion,
		Timeline: g.start.Timeline, StartLSN: g.start.StartLSN, CheckpointLSN: g.label.checkpoint,
		StopLSN: g.end.StopLSN, StopTimeline: g.end.Timeline,
		StartTime: t.start, FromStandby: g.label.standby,
		Label: g.label.label, BackupLabel: g.labelText,
		Tablespaces: g.start.Tablespaces, Settings: t.facts.Settings,
		Packs: t.packs.refs, Shards: t.shards.refs,
		Files: g.files, Bytes: g.bytes,
	}
	for _, c := range t.facts.ConfigFiles {
		m.ConfigFiles = append(m.ConfigFiles, c.Path)
	}
	for _, p := range m.Packs {
		m.StoredBytes += p.Size
	}
	for _, s := range m.Shards {
		m.StoredBytes += s.Size
	}
	return m
}

// publish writes the manifest: the moment from which the backup exists.
func (t *taker) publish(ctx context.Context, m *Manifest) error {
	if err := m.check(t.o.Incarnation, t.id); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	key := ManifestKey(t.o.Incarnation, t.id)
	if err := ctx.Err(); err != nil {
		return err
	}
	t.published = true
	_, err = t.o.Repo.Put(ctx, key, raw, repository.ObjectOptions{Kind: frame.KindManifest})
	if err == nil {
		return nil
	}
	// The answer may have been lost after the deed. Only the manifest itself
	// can say, and it is this one: nobody else knows the id.
	look, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	there, readErr := t.o.Repo.Read(look, key, frame.KindManifest, maxManifest)
	if readErr == nil && bytes.Equal(there, raw) {
		return nil
	}
	// A plain refusal has written nothing, and nothing is on its way any more.
	if errors.Is(readErr, storage.ErrNotExist) && !storage.Retryable(err) && ctx.Err() == nil {
		t.published = false
	}
	return fmt.Errorf("publish: %w", err)
}

// cleanUp removes what a failed backup wrote, as far as possible: its own
// objects only, and none once the manifest may exist. The claim goes last, so
// that whatever is left behind stays known as an incomplete backup.
func (t *taker) cleanUp(ctx context.Context) {
	if t.published {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	var keys []string
	keys = append(keys, t.packs.keys...)
	keys = append(keys, t.shards.keys...)
	keys = append(keys, ClaimKey(t.o.Incarnation, t.id))
	for _, key := range keys {
		if err := t.o.Repo.Store().Delete(ctx, key); err != nil {
			t.o.Logger.Warn("a failed backup could not be removed completely; it is listed as incomplete", "backup", t.id, "key", key, "error", err)
			return
		}
	}
}
