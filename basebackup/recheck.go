package basebackup

import (
	"context"
	"fmt"

	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal/archive"
)

// Recheck reads the table of files of a published backup again and holds it against the
// manifest's counts and against the server's backup_manifest, which it reads from the packs; of those it
// reads nothing else. Every entry is given to each on the way; what each returns ends
// it. Errors: *FormatError, *MismatchError, *frame.Error, and the store's.
func Recheck(ctx context.Context, repo *repository.Repository, inc archive.Incarnation, m *Manifest, each func(FileEntry) error) error {
	var files, bytes int64
	var listed *FileEntry
	for e, err := range ReadFiles(ctx, repo, inc, m) {
		if err != nil {
			return err
		}
		if e.Kind == KindFile || e.Kind == KindConfig {
			files++
			bytes += e.Size
		}
		if e.Kind == KindFile && e.Path == ManifestPath {
			listed = &e
		}
		if err := each(e); err != nil {
			return err
		}
	}
	key := ManifestKey(inc, m.ID)
	switch {
	case files != m.Files || bytes != m.Bytes:
		return &FormatError{Object: key, Reason: fmt.Sprintf("its tables have %d files of %d bytes, it says %d of %d", files, bytes, m.Files, m.Bytes)}
	case listed == nil:
		return &FormatError{Object: key, Reason: "its tables lack the server's " + ManifestPath}
	}
	r := OpenFile(ctx, repo, inc, m, *listed)
	defer r.Close()
	server, err := compareFiles(r, ReadFiles(ctx, repo, inc, m))
	if err != nil {
		return err
	}
	if server.systemID != 0 && server.systemID != m.SystemID {
		return &FormatError{Object: key, Reason: fmt.Sprintf("the server's %s is of a cluster with system identifier %d", ManifestPath, server.systemID)}
	}
	return nil
}
