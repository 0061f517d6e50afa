package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/control"
)

// Route returns the newest incarnation that WAL with this system identifier
// and segment size belongs to. If there is none it returns a *RefusedError
// (without a Name) that tells both system identifiers.
func Route(incs []Incarnation, systemID uint64, size wal.SegmentSize) (Incarnation, error) {
	if inc, ok := FindIncarnation(incs, systemID, size); ok {
		return inc, nil
	}
	current, ok := Current(incs)
	if !ok {
		return Incarnation{}, &NoIncarnationError{}
	}
	return Incarnation{}, foreign(current, systemID, size)
}

// foreign is the refusal of WAL that does not belong to inc.
func foreign(inc Incarnation, systemID uint64, size wal.SegmentSize) *RefusedError {
	e := &RefusedError{
		Reason: fmt.Sprintf("it is of a cluster with system identifier %d, cluster %s has %d", systemID, inc.Cluster, inc.SystemID),
		Advice: "see that the hook names the right cluster; run `walden init` if this cluster was re-initialised or upgraded",
	}
	if systemID == inc.SystemID {
		e.Reason = fmt.Sprintf("it is of a cluster with segments of %s, cluster %s (system identifier %d) has segments of %s",
			size, inc.Cluster, systemID, inc.SegmentSize)
		e.Advice = "run `walden init` if the segment size was changed with pg_resetwal"
	}
	return e
}

// PushFile archives the file at path in the incarnation it belongs to: by the
// system identifier in its first page, and for history files, which have
// none, by that in the control file of the data directory the file lies in.
// incs are those of the cluster, oldest first. See Archive.Push.
func PushFile(ctx context.Context, repo *repository.Repository, incs []Incarnation, path string) (PushResult, error) {
	name := filepath.Base(path)
	inc, err := incarnationOfFile(incs, name, path)
	var refused *RefusedError
	if errors.As(err, &refused) && refused.Name == "" {
		refused.Name = name
	}
	if err != nil {
		return 0, err
	}
	return New(repo, inc).Push(ctx, path, PushOptions{})
}

func incarnationOfFile(incs []Incarnation, name, path string) (Incarnation, error) {
	if len(incs) == 0 {
		return Incarnation{}, &NoIncarnationError{}
	}
	if err := checkName(incs, name); err != nil {
		return Incarnation{}, err
	}
	if strings.HasSuffix(name, historySuffix) || strings.HasSuffix(name, ".backup") {
		return incarnationOfText(incs, path)
	}
	h, err := readHeader(path)
	if err != nil {
		return Incarnation{}, err
	}
	return Route(incs, h.systemID, h.segmentSize)
}

// checkName refuses names that are not those of archived files, whatever the
// segment size: which one it is the file tells, and Push compares.
func checkName(incs []Incarnation, name string) error {
	for size := wal.MinSegmentSize; size <= wal.MaxSegmentSize; size <<= 1 {
		if _, err := wal.ParseFile(name, size); err == nil {
			return nil
		}
	}
	_, err := wal.ParseFile(name, incs[len(incs)-1].SegmentSize)
	return &RefusedError{Reason: err.Error(), Err: err,
		Advice: "only the files that PostgreSQL archives are stored: segments, .history, .partial and .backup files"}
}

// incarnationOfText finds the incarnation for a file that does not tell.
func incarnationOfText(incs []Incarnation, path string) (Incarnation, error) {
	c, err := controlBeside(path)
	if err == nil {
		return Route(incs, c.SystemIdentifier, c.SegmentSize)
	}
	if len(incs) == 1 && errors.Is(err, fs.ErrNotExist) {
		return incs[0], nil
	}
	return Incarnation{}, &RefusedError{
		Reason: fmt.Sprintf("the file does not tell which cluster it is of, and the control file of its data directory cannot be read: %v", err),
		Advice: "push the file from the data directory's pg_wal, as the user that owns it", Err: err,
	}
}

// IncarnationOf returns the incarnation of the data directory that path (a
// file in its pg_wal, which need not exist) lies in, by its control file. If
// there is no control file it is the newest one. A control file of another
// cluster is a *RefusedError.
func IncarnationOf(incs []Incarnation, path string) (Incarnation, error) {
	current, ok := Current(incs)
	if !ok {
		return Incarnation{}, &NoIncarnationError{}
	}
	c, err := controlBeside(path)
	if errors.Is(err, fs.ErrNotExist) {
		return current, nil
	}
	if err != nil {
		return Incarnation{}, err
	}
	inc, err := Route(incs, c.SystemIdentifier, c.SegmentSize)
	var refused *RefusedError
	if errors.As(err, &refused) {
		refused.Name = "data directory of " + path
	}
	return inc, err
}

// controlBeside reads the control file of the data directory whose pg_wal path
// lies in. The way is by name, not through symbolic links: pg_wal may be one.
func controlBeside(path string) (control.File, error) {
	return control.ReadDirectory(filepath.Join(filepath.Dir(path), ".."))
}

// readHeader reads the header of the first page of the file at path.
func readHeader(path string) (longHeader, error) {
	f, err := os.Open(path)
	if err != nil {
		return longHeader{}, fmt.Errorf("push: %w", err)
	}
	defer f.Close()
	return headerOf(f)
}

// headerOf reads the long header that r begins with; the error is a
// *RefusedError without a name if it is none.
func headerOf(r io.ReaderAt) (longHeader, error) {
	b := make([]byte, longHeaderSize)
	n, err := r.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return longHeader{}, fmt.Errorf("push: %w", err)
	}
	h, err := parseLongHeader(b[:n])
	if err != nil {
		return h, &RefusedError{Reason: err.Error(), Err: err}
	}
	return h, nil
}
