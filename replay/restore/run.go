package restore

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/replay/plan"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal/archive"
)

// Run executes the plan: see the package's description.
//
// When Run returns nil the directory is complete, verified and durable, and
// PostgreSQL can be started on it. When it fails, is cancelled or is killed at
// any point there is no global/pg_control, so that no server can start on what
// is there (the one exception: when it ends after pg_control has got its name,
// the directory is complete and still marked as begun); the same call made again
// begins anew.
//
// Errors: *TargetError, *FileError, *basebackup.FormatError, those of the
// repository (*frame.Error names the damaged object), of the file system and of ctx.
func Run(ctx context.Context, repo *repository.Repository, p *plan.Plan, o Options) (*Result, error) {
	return run(ctx, repo, p, o, osDisk{})
}

func run(ctx context.Context, repo *repository.Repository, p *plan.Plan, o Options, d disk) (*Result, error) {
	began := time.Now()
	r := &restorer{repo: repo, plan: p, options: o, disk: d, log: o.Logger}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if err := r.load(ctx); err != nil {
		return nil, err
	}
	if chosen, err := chooseTargets(o, r.manifest); err == nil && r.alreadyDone(chosen) {
		r.targets, r.layout = chosen, newLayout(chosen, r.manifest)
		return r.repeated(), nil
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	if err := r.begin(); err != nil {
		return nil, err
	}
	if err := r.copyAll(ctx); err != nil {
		return nil, err
	}
	if err := r.complete(ctx); err != nil {
		return nil, err
	}
	result := r.result()
	result.Downloaded = r.copier.downloaded
	result.Duration = time.Since(began)
	return result, nil
}

// restorer is one run.
type restorer struct {
	repo    *repository.Repository
	plan    *plan.Plan
	options Options
	disk    disk
	log     *slog.Logger

	inc      archive.Incarnation
	manifest *basebackup.Manifest
	settings settings
	targets  *targets
	layout   *layout
	own      *owner
	copier   *copier
	tree     *tree
	seen     map[string]bool // of the files that no backup is without
	dropped  []string        // see dropFuture

	hollowFiles, hollowBytes int64
}

// essential are the files without which a directory is no backup.
var essential = []string{"PG_VERSION", "backup_label", controlPath, basebackup.ManifestPath}

// load reads what the backup says of itself, and decides on the settings.
func (r *restorer) load(ctx context.Context) error {
	incs, err := archive.Incarnations(ctx, r.repo, r.plan.Cluster)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	for _, inc := range incs {
		if inc.Number == r.plan.Incarnation {
			r.inc = inc
		}
	}
	if r.inc.Number == 0 {
		return fmt.Errorf("restore: cluster %s has no incarnation %d in the repository", r.plan.Cluster, r.plan.Incarnation)
	}
	if r.manifest, err = basebackup.Load(ctx, r.repo, r.inc, r.plan.Backup.ID); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	r.settings, err = makeSettings(r.plan, r.manifest, r.options)
	return err
}

// check makes every check that can be made before something is written.
func (r *restorer) check() (err error) {
	if r.targets, err = checkTargets(r.options, r.manifest); err != nil {
		return err
	}
	if r.own, err = findOwner(r.options.Owner, r.targets.data.path); err != nil {
		return err
	}
	return nil
}

// begin marks the directories, after a look at the space they have.
func (r *restorer) begin() error {
	for _, p := range r.targets.all() {
		if p.remains != nil {
			// What lies there takes space that will be free.
			if err := r.targets.begin(r.disk, r.manifest.ID, r.own); err != nil {
				return err
			}
			r.log.Info("removed what an interrupted restore had left", "directory", r.targets.data.path)
			return r.targets.checkSpace(r.manifest, r.options.Databases)
		}
	}
	if err := r.targets.checkSpace(r.manifest, r.options.Databases); err != nil {
		return err
	}
	return r.targets.begin(r.disk, r.manifest.ID, r.own)
}

// copyAll restores all entries of the backup, shard by shard.
func (r *restorer) copyAll(ctx context.Context) error {
	r.layout = newLayout(r.targets, r.manifest)
	r.tree = newTree(r.disk, r.own)
	r.copier = newCopier(r.repo, r.inc, r.manifest, r.options)
	r.copier.disk, r.copier.own = r.disk, r.own
	r.seen = map[string]bool{}
	for _, ref := range r.manifest.Shards {
		files, err := r.readShard(ctx, ref)
		if err != nil {
			return fmt.Errorf("restore: %w", err)
		}
		if err := r.copier.copy(ctx, files); err != nil {
			return err
		}
		r.log.Debug("shard restored", "backup", ref.Backup, "shard", ref.Number, "files", len(files))
	}
	done := r.copier.progress
	if files, bytes := done.Files+r.hollowFiles, done.Bytes+r.hollowBytes; files != r.manifest.Files || bytes != r.manifest.Bytes {
		return fmt.Errorf("restore: the backup's tables hold %d files and %d bytes, its manifest says %d and %d: choose another backup",
			files, bytes, r.manifest.Files, r.manifest.Bytes)
	}
	for _, name := range essential {
		if !r.seen[name] {
			return &FileError{Path: name, Reason: "it is missing, and without it there is no cluster"}
		}
	}
	r.copier.finalReport()
	return nil
}

// readShard makes the directories of a shard's entries and returns its files.
func (r *restorer) readShard(ctx context.Context, ref basebackup.ShardRef) ([]*file, error) {
	var files []*file
	for e, err := range basebackup.ReadShard(ctx, r.repo, r.inc, ref) {
		if err != nil {
			return nil, err
		}
		at, top, err := r.layout.locate(&e)
		if err != nil {
			return nil, err
		}
		switch e.Kind {
		case basebackup.KindDir:
			err = r.tree.directory(at, top, e.Mode)
		case basebackup.KindSymlink:
			err = r.link(&e)
		default:
			err = r.tree.parents(at, top)
			f := &file{entry: e, path: at, hollow: r.options.Databases.IsHollow(e.Path)}
			files = append(files, f)
			if f.hollow {
				r.hollowFiles++
				r.hollowBytes += e.Size
			}
			r.note(&e)
		}
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}

func (r *restorer) note(e *basebackup.FileEntry) {
	for _, name := range essential {
		if e.Path == name {
			r.seen[name] = true
		}
	}
	// With group access everything, PG_VERSION too, is readable by the group.
	if e.Path == "PG_VERSION" && e.Mode&0o040 != 0 {
		r.tree.topMode = 0o750
	}
}

// link takes note of a link. Links are made at the end, from the manifest's
// list of tablespaces, so that nothing is ever written through one.
func (r *restorer) link(e *basebackup.FileEntry) error {
	if !tablespaceLink.MatchString(e.Path) {
		return &FileError{Path: e.Path, Reason: "it is a symbolic link, and not that of a tablespace"}
	}
	if _, ok := r.layout.tablespaces[e.Path]; !ok {
		return &FileError{Path: e.Path, Reason: "it is the link of a tablespace that the backup's manifest does not name"}
	}
	return nil
}
