package archive

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/wal"
)

// temporaryPrefix begins the names of files that are being delivered.
// PostgreSQL removes files of this name from pg_wal when it starts after a
// crash (RemoveTempXlogFiles in src/backend/access/transam/xlog.c), so that
// those of a killed wal-get do not pile up there.
const temporaryPrefix = "xlogtemp.walden-"

// deliver copies the object of a file to path by way of a temporary file.
func (a *Archive) deliver(ctx context.Context, f wal.File, path string) (err error) {
	obj, err := a.open(ctx, f)
	if err != nil {
		return err
	}
	tmp, err := createTemporary(filepath.Dir(path))
	if err != nil {
		return &DeliveryError{Name: f.Name(), Path: path, Err: err}
	}
	defer func() {
		if err != nil {
			// What went wrong is told already. A file that cannot even be
			// removed has a name that PostgreSQL cleans up.
			_ = tmp.Close()
			_ = os.Remove(tmp.Name())
		}
	}()
	out := &localWriter{f: tmp}
	if err := a.copyVerified(ctx, out, obj, f); err != nil {
		if out.err != nil {
			return &DeliveryError{Name: f.Name(), Path: path, Err: out.err}
		}
		return err
	}
	if err := publish(tmp, path); err != nil {
		return &DeliveryError{Name: f.Name(), Path: path, Err: err}
	}
	return nil
}

// copyVerified copies the raw bytes of the object to w and checks them against
// the object's digest and the file's name. Every frame is checked by the
// reader already; the digest also proves that it is the whole of what was pushed.
func (a *Archive) copyVerified(ctx context.Context, w io.Writer, obj *frame.Object, f wal.File) error {
	key := FileKey(a.inc, f)
	r := obj.NewReader(ctx, 0, obj.Size())
	defer r.Close()
	digest := a.repo.NewRawHasher()
	first := make([]byte, min(obj.Size(), longHeaderSize))
	if _, err := io.ReadFull(r, first); err != nil {
		return fmt.Errorf("read %s: object %s: %w", f.Name(), key, err)
	}
	if f.Kind == wal.FileSegment || f.Kind == wal.FilePartial {
		h, err := parseLongHeader(first)
		if err == nil {
			err = h.belongs(a.inc, f.Segment)
		}
		if err != nil {
			return fmt.Errorf("object %s does not hold %s: %w", key, f.Name(), err)
		}
	}
	n, err := io.CopyBuffer(io.MultiWriter(digest, w), io.MultiReader(bytes.NewReader(first), r), make([]byte, chunkSize))
	if err != nil {
		return fmt.Errorf("read %s: object %s: %w", f.Name(), key, err)
	}
	if n != obj.Size() {
		return fmt.Errorf("read %s: object %s gave %d bytes of %d", f.Name(), key, n, obj.Size())
	}
	footer := obj.Footer()
	if !footer.HasRawDigest || !bytes.Equal(digest.Sum(nil), footer.RawDigest[:]) {
		return &frame.Error{Object: key, Offset: -1, Kind: frame.Corrupt, Reason: "its content does not match the digest in its footer"}
	}
	return nil
}

// localWriter writes to the temporary file and remembers that it was the local
// disk that failed.
type localWriter struct {
	f   *os.File
	err error
}

// Write implements io.Writer.
func (w *localWriter) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	if err != nil {
		w.err = err
	}
	return n, err
}

// createTemporary creates a new file in a directory, for its owner alone.
func createTemporary(dir string) (*os.File, error) {
	return os.OpenFile(filepath.Join(dir, temporaryPrefix+rand.Text()), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
}

// publish makes the temporary file durable and gives it its name.
func publish(tmp *os.File, path string) error {
	if err := tmp.Sync(); err != nil {
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(path))
}

// syncDirectory makes a rename durable. Windows cannot open directories for it
// and needs not.
func syncDirectory(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
