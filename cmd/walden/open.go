package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/walden-pg/walden/internal/config"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal/archive"
)

// target is the cluster a command works on.
type target struct {
	config  *config.Config
	name    string
	cluster config.Cluster
	log     *slog.Logger
}

// selectCluster reads the configuration and selects the cluster.
func (e *environment) selectCluster() (*target, error) {
	log, err := e.logger()
	if err != nil {
		return nil, err
	}
	cfg, err := config.Load(e.configPath, e.environ)
	if err != nil {
		return nil, err
	}
	name, cl, err := cfg.Cluster(e.cluster)
	if err != nil {
		return nil, err
	}
	return &target{config: cfg, name: name, cluster: cl, log: log}, nil
}

// openRepository opens the repository and lists the cluster's incarnations.
func (t *target) openRepository(ctx context.Context) (*repository.Repository, []archive.Incarnation, error) {
	return t.openRepositoryWith(ctx, t.config.Repository, config.OpenOptions{})
}

func (t *target) openRepositoryWith(ctx context.Context, r config.Repository, o config.OpenOptions) (*repository.Repository, []archive.Incarnation, error) {
	repo, err := r.Open(ctx, t.log, o)
	if err != nil {
		return nil, nil, err
	}
	incs, err := archive.Incarnations(ctx, repo, t.name)
	if err != nil {
		return nil, nil, err
	}
	if len(incs) == 0 {
		return nil, nil, &archive.NoIncarnationError{Cluster: t.name}
	}
	return repo, incs, nil
}

// incarnationFlagUsage describes the flag that selects an incarnation.
const incarnationFlagUsage = "use incarnation `N` of the cluster (a re-initialised cluster has several)"

// chooseIncarnation returns the incarnation of that number, the newest for 0.
func chooseIncarnation(incs []archive.Incarnation, n int) (archive.Incarnation, error) {
	if n == 0 {
		return incs[len(incs)-1], nil
	}
	for _, i := range incs {
		if i.Number == n {
			return i, nil
		}
	}
	return archive.Incarnation{}, &archive.NoIncarnationError{Cluster: incs[0].Cluster, Number: n}
}

// executable returns the path under which hooks find this binary.
func executable() (string, error) {
	p, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("path of this program: %w", err)
	}
	return filepath.Clean(p), nil
}

// openIncarnation opens the repository, and chooses the incarnation number n of the
// cluster; 0: the newest.
func (t *target) openIncarnation(ctx context.Context, n int) (*repository.Repository, archive.Incarnation, error) {
	repo, incs, err := t.openRepository(ctx)
	if err != nil {
		return nil, archive.Incarnation{}, err
	}
	inc, err := chooseIncarnation(incs, n)
	return repo, inc, err
}
