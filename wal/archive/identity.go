package archive

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal"
)

// maxIdentity bounds the size of identity.json, in bytes.
const maxIdentity = 64 << 10

// attemptsToCreate bounds how often CreateIncarnation starts over when others
// create incarnations of the same cluster at the same time.
const attemptsToCreate = 10

// Incarnation is a cluster under one system identifier and one segment size.
// A cluster that is initialised anew, upgraded with pg_upgrade, or given
// another segment size by pg_resetwal becomes a new incarnation under the same
// name; the earlier ones stay readable.
type Incarnation struct {
	Cluster string `json:"cluster"`
	// Number counts the cluster's incarnations from 1.
	Number      int             `json:"number"`
	SystemID    uint64          `json:"system_identifier,string"`
	SegmentSize wal.SegmentSize `json:"segment_size"`
	// Major is PostgreSQL's major version when the incarnation was created.
	Major   int       `json:"postgresql_major"`
	Created time.Time `json:"created"`
}

// same reports whether i is the incarnation with this identity.
func (i Incarnation) same(systemID uint64, size wal.SegmentSize) bool {
	return i.SystemID == systemID && i.SegmentSize == size
}

// String describes the incarnation in a message.
func (i Incarnation) String() string {
	return fmt.Sprintf("incarnation %d of cluster %s (system identifier %d, segments of %s)", i.Number, i.Cluster, i.SystemID, i.SegmentSize)
}

// Incarnations lists the cluster's incarnations, oldest first; none is no
// error. It takes one listing and one read for each, however large they are.
// Each must have its identity object, whole: an error names the one that has not.
func Incarnations(ctx context.Context, repo *repository.Repository, cluster string) ([]Incarnation, error) {
	if err := CheckClusterName(cluster); err != nil {
		return nil, err
	}
	places, err := Places(ctx, repo.Store(), cluster)
	if err != nil {
		return nil, err
	}
	var list []Incarnation
	for _, place := range places {
		inc, err := ReadIdentity(ctx, repo, place)
		if err != nil {
			return nil, err
		}
		list = append(list, inc)
	}
	slices.SortFunc(list, func(a, b Incarnation) int {
		// Two different clusters that were initialised at the same moment can
		// have the same number: the order is the same for everybody.
		return cmp.Or(cmp.Compare(a.Number, b.Number), a.Created.Compare(b.Created), cmp.Compare(a.SystemID, b.SystemID))
	})
	return list, nil
}

// Places lists what of the cluster's incarnations the keys tell: numbers and system
// identifiers. There may be one whose identity object is missing or damaged.
func Places(ctx context.Context, s storage.Store, cluster string) ([]Incarnation, error) {
	var list []Incarnation
	for e, err := range storage.Directories(ctx, s, cluster+"/") {
		if err != nil {
			return nil, fmt.Errorf("list incarnations of cluster %s: %w", cluster, err)
		}
		if number, systemID, ok := parseIncarnationName(e.Name); ok && e.IsDir {
			list = append(list, Incarnation{Cluster: cluster, Number: number, SystemID: systemID})
		}
	}
	return list, nil
}

// ReadIdentity reads the identity of the incarnation whose key is known, as Places
// tells it.
func ReadIdentity(ctx context.Context, repo *repository.Repository, known Incarnation) (Incarnation, error) {
	key := known.IdentityKey()
	b, err := repo.Read(ctx, key, frame.KindIdentity, maxIdentity)
	if err != nil {
		return Incarnation{}, fmt.Errorf("read identity of cluster %s: %w", known.Cluster, err)
	}
	var inc Incarnation
	if err := json.Unmarshal(b, &inc); err != nil {
		return Incarnation{}, fmt.Errorf("object %s: %w", key, err)
	}
	if inc.IdentityKey() != key {
		return Incarnation{}, fmt.Errorf("object %s is the identity of %s", key, inc)
	}
	if err := inc.SegmentSize.Valid(); err != nil {
		return Incarnation{}, fmt.Errorf("object %s: %w", key, err)
	}
	return inc, nil
}

// CreateIncarnation makes sure that the cluster's current incarnation is the
// one with this system identifier and segment size. If it is already, created
// is false; otherwise it gets the next number, and an earlier incarnation of
// the same identity stays what it is. major is the server's major version.
//
// When several create at once, those of one identity agree on one incarnation.
func CreateIncarnation(ctx context.Context, repo *repository.Repository, cluster string, systemID uint64, size wal.SegmentSize, major int) (inc Incarnation, created bool, err error) {
	if systemID == 0 {
		return inc, false, errors.New("create incarnation: the system identifier is zero")
	}
	if err := size.Valid(); err != nil {
		return inc, false, fmt.Errorf("create incarnation: %w", err)
	}
	for range attemptsToCreate {
		list, err := Incarnations(ctx, repo, cluster)
		if err != nil {
			return inc, false, err
		}
		current, ok := Current(list)
		if ok && current.same(systemID, size) {
			return current, false, nil
		}
		inc = Incarnation{
			Cluster: cluster, Number: current.Number + 1, SystemID: systemID,
			SegmentSize: size, Major: major, Created: time.Now().UTC().Truncate(time.Second),
		}
		err = writeIdentity(ctx, repo, inc)
		if err == nil {
			return inc, true, nil
		}
		// Somebody was faster, or the reply to our own first attempt was
		// lost: the next round finds what is there.
		if !errors.Is(err, storage.ErrExist) {
			return inc, false, err
		}
	}
	return inc, false, fmt.Errorf("create incarnation of cluster %s: others kept creating incarnations at the same time", cluster)
}

func writeIdentity(ctx context.Context, repo *repository.Repository, inc Incarnation) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	if err := enc.Encode(inc); err != nil {
		return fmt.Errorf("create %s: %w", inc, err)
	}
	if _, err := repo.Put(ctx, inc.IdentityKey(), b.Bytes(), repository.ObjectOptions{Kind: frame.KindIdentity}); err != nil {
		return fmt.Errorf("create %s: %w", inc, err)
	}
	return nil
}

// Current returns the newest incarnation of a list that is oldest first; ok is
// false if it is empty.
func Current(list []Incarnation) (inc Incarnation, ok bool) {
	if len(list) == 0 {
		return Incarnation{}, false
	}
	return list[len(list)-1], true
}

// FindIncarnation returns the newest incarnation with this system identifier
// and segment size.
func FindIncarnation(list []Incarnation, systemID uint64, size wal.SegmentSize) (inc Incarnation, ok bool) {
	for _, inc := range slices.Backward(list) {
		if inc.same(systemID, size) {
			return inc, true
		}
	}
	return Incarnation{}, false
}
