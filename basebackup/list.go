package basebackup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal/archive"
)

// Limits of what is read into memory at once.
const (
	maxManifest = 256 << 20
	maxClaim    = 1 << 20
)

// Listing is what an incarnation's backups are, oldest first.
type Listing struct {
	// Backups are the complete ones.
	Backups []*Manifest
	// Incomplete are claims without a manifest: backups that are running, or
	// that were cut off. They cannot be restored.
	Incomplete []*Claim
	// Unreadable are backups whose manifest or claim is there but damaged, or
	// of a format this version does not know. It is a finding, never to be hidden.
	Unreadable []Unreadable
}

// Unreadable is a backup whose description cannot be read.
type Unreadable struct {
	ID  string
	Err error
}

// NotFoundError says that there is no such backup.
type NotFoundError struct {
	ID string
	// Incomplete says that it was begun, but has no manifest.
	Incomplete bool
}

// Error names the backup.
func (e *NotFoundError) Error() string {
	if e.Incomplete {
		return fmt.Sprintf("backup %s was never completed", e.ID)
	}
	return fmt.Sprintf("there is no backup %s", e.ID)
}

// FormatError says that an object's content is not what it should be.
type FormatError struct {
	Object string
	Reason string
}

// Error names the object.
func (e *FormatError) Error() string { return e.Object + ": " + e.Reason }

// List reads all manifests and claims of the incarnation. Its error is that of
// the store; single damaged objects are in Listing.Unreadable.
func List(ctx context.Context, repo *repository.Repository, inc archive.Incarnation) (*Listing, error) {
	return list(ctx, repo, inc, func(*Manifest) {})
}

// Overview is List with manifests that lack Packs, Shards and BackupLabel: of many
// large backups those would take much memory.
func Overview(ctx context.Context, repo *repository.Repository, inc archive.Incarnation) (*Listing, error) {
	return list(ctx, repo, inc, func(m *Manifest) { m.Packs, m.Shards, m.BackupLabel = nil, nil, "" })
}

func list(ctx context.Context, repo *repository.Repository, inc archive.Incarnation, trim func(*Manifest)) (*Listing, error) {
	ids, err := listIDs(ctx, repo, inc)
	if err != nil {
		return nil, fmt.Errorf("list backups of %s: %w", inc.Cluster, err)
	}
	found := make([]listed, len(ids))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(64)
	for i, id := range ids {
		g.Go(func() error {
			var err error
			if found[i], err = look(gctx, repo, inc, id); found[i].manifest != nil {
				m := found[i].manifest
				m.Objects = 1 + len(m.Packs) + len(m.Shards)
				trim(m)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("list backups of %s: %w", inc.Cluster, err)
	}
	return collect(ids, found), nil
}

// listIDs lists the ids that have a claim or a manifest. A backup has no more
// objects than these two there, so they are listed one and all.
func listIDs(ctx context.Context, repo *repository.Repository, inc archive.Incarnation) ([]string, error) {
	var ids []string
	for info, err := range repo.Store().List(ctx, backupsPrefix(inc), "") {
		if err != nil {
			return nil, err
		}
		id, _, ok := strings.Cut(strings.TrimPrefix(info.Key, backupsPrefix(inc)), "/")
		if n := len(ids); ok && (n == 0 || ids[n-1] != id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// listed is one of: a manifest, a claim, damage, or nothing (deleted meanwhile).
type listed struct {
	manifest *Manifest
	claim    *Claim
	damage   error
}

func look(ctx context.Context, repo *repository.Repository, inc archive.Incarnation, id string) (listed, error) {
	var missing *NotFoundError
	m, err := Load(ctx, repo, inc, id)
	switch {
	case err == nil:
		return listed{manifest: m}, nil
	case isDamage(err):
		return listed{damage: err}, nil
	case !errors.As(err, &missing):
		return listed{}, err
	}
	claim, err := LoadClaim(ctx, repo, inc, id)
	switch {
	case err == nil:
		return listed{claim: claim}, nil
	case isDamage(err):
		return listed{damage: err}, nil
	case errors.Is(err, storage.ErrNotExist):
		return listed{}, nil
	}
	return listed{}, err
}

// isDamage tells what is wrong with an object from what is wrong with the store.
func isDamage(err error) bool {
	var container *frame.Error
	var content *FormatError
	return errors.As(err, &container) || errors.As(err, &content)
}

func collect(ids []string, found []listed) *Listing {
	l := &Listing{}
	for i, f := range found {
		switch {
		case f.manifest != nil:
			l.Backups = append(l.Backups, f.manifest)
		case f.claim != nil:
			l.Incomplete = append(l.Incomplete, f.claim)
		case f.damage != nil:
			l.Unreadable = append(l.Unreadable, Unreadable{ID: ids[i], Err: f.damage})
		}
	}
	return l
}

// Load reads the manifest of a backup. Errors: *NotFoundError, *frame.Error
// and *FormatError for damage, and the store's.
func Load(ctx context.Context, repo *repository.Repository, inc archive.Incarnation, id string) (*Manifest, error) {
	if err := CheckID(id); err != nil {
		return nil, &FormatError{Object: backupsPrefix(inc) + id, Reason: err.Error()}
	}
	key := ManifestKey(inc, id)
	b, err := repo.Read(ctx, key, frame.KindManifest, maxManifest)
	if errors.Is(err, storage.ErrNotExist) {
		_, statErr := repo.Store().Stat(ctx, ClaimKey(inc, id))
		return nil, &NotFoundError{ID: id, Incomplete: statErr == nil}
	}
	if err != nil {
		return nil, fmt.Errorf("load backup %s: %w", id, err)
	}
	m := &Manifest{}
	if err := decode(b, m); err != nil {
		return nil, &FormatError{Object: key, Reason: err.Error()}
	}
	if err := m.check(inc, id); err != nil {
		return nil, &FormatError{Object: key, Reason: err.Error()}
	}
	return m, nil
}

// LoadClaim reads the claim of a backup. An absent one is storage.ErrNotExist.
func LoadClaim(ctx context.Context, repo *repository.Repository, inc archive.Incarnation, id string) (*Claim, error) {
	key := ClaimKey(inc, id)
	b, err := repo.Read(ctx, key, frame.KindClaim, maxClaim)
	if err != nil {
		return nil, fmt.Errorf("load claim of backup %s: %w", id, err)
	}
	c := &Claim{}
	if err := decode(b, c); err != nil {
		return nil, &FormatError{Object: key, Reason: err.Error()}
	}
	if c.Format > FormatVersion || c.Format < 1 || c.ID != id {
		return nil, &FormatError{Object: key, Reason: fmt.Sprintf("claim of format %d for backup %q", c.Format, c.ID)}
	}
	return c, nil
}

// decode reads one JSON document and nothing after it. Unknown keys are
// allowed: what must be understood raises the format number.
func decode(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(v); err != nil {
		return err
	}
	if d.More() {
		return errors.New("data after the document")
	}
	return nil
}

// check verifies that the manifest is whole and belongs where it was found.
func (m *Manifest) check(inc archive.Incarnation, id string) error {
	switch {
	case m.Format < 1 || m.Format > FormatVersion:
		return fmt.Errorf("format %d is not known: it takes a newer walden", m.Format)
	case m.ID != id:
		return fmt.Errorf("it is that of backup %q", m.ID)
	case m.SystemID != inc.SystemID || m.SegmentSize != inc.SegmentSize:
		return fmt.Errorf("it is of another cluster: system identifier %d, segment size %d", m.SystemID, m.SegmentSize)
	case m.Timeline == 0 || m.StopTimeline == 0 || m.StartLSN == 0 || m.StartLSN > m.StopLSN:
		return fmt.Errorf("impossible WAL range %s on timeline %d to %s on timeline %d", m.StartLSN, m.Timeline, m.StopLSN, m.StopTimeline)
	case len(m.Packs) == 0 || len(m.Shards) == 0:
		return errors.New("it names no packs or no shards")
	}
	for _, p := range m.Packs {
		if err := CheckID(p.Backup); err != nil || p.Number < 0 {
			return fmt.Errorf("illegal pack %q %d", p.Backup, p.Number)
		}
	}
	for _, s := range m.Shards {
		if err := CheckID(s.Backup); err != nil || s.Number < 0 {
			return fmt.Errorf("illegal shard %q %d", s.Backup, s.Number)
		}
	}
	return nil
}

// Pack finds the pack that an extent lies in.
func (m *Manifest) Pack(x Extent) (PackRef, bool) {
	for _, p := range m.Packs {
		if p.Number == x.Pack && p.Backup == x.Backup {
			return p, true
		}
	}
	return PackRef{}, false
}
