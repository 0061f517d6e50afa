//go:build unix

package dockertest

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// rootfs collects the files of an image from this machine. An error is kept, and
// told by whoever uses what was collected.
type rootfs struct {
	entries map[string]entry
	changes []string // Dockerfile instructions
	err     error
}

// entry is one file of the image.
type entry struct {
	header tar.Header
	source string // file of this machine; empty: text
	text   []byte
}

// newRootfs begins with what every program of this machine needs to find its
// libraries, its user and its hosts.
func newRootfs() *rootfs {
	r := &rootfs{entries: map[string]entry{}}
	for _, dir := range []string{"/bin", "/sbin", "/lib", "/lib64"} {
		if to, err := os.Readlink(dir); err == nil {
			r.symlink(dir, to)
		}
	}
	r.directory("/tmp", 0o1777, 0)
	r.write("/etc/nsswitch.conf", 0o644, "passwd: files\ngroup: files\nhosts: files dns\n")
	return r
}

func (r *rootfs) set(path string, e entry) {
	e.header.Name = strings.TrimPrefix(path, "/")
	e.header.Format = tar.FormatPAX
	r.entries[path] = e
}

func (r *rootfs) symlink(path, to string) {
	r.set(path, entry{header: tar.Header{Typeflag: tar.TypeSymlink, Linkname: to, Mode: 0o777}})
}

// directory makes a directory that belongs to the user and group id.
func (r *rootfs) directory(path string, mode int64, id int) {
	r.set(path, entry{header: tar.Header{Typeflag: tar.TypeDir, Mode: mode, Uid: id, Gid: id}})
}

func (r *rootfs) write(path string, mode int64, text string) {
	r.set(path, entry{header: tar.Header{Typeflag: tar.TypeReg, Mode: mode, Size: int64(len(text))}, text: []byte(text)})
}

// file copies a file of this machine, or what a link of this name leads to, to
// another path of the image.
func (r *rootfs) file(source, path string) {
	info, err := os.Stat(source)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", source)
	}
	if err != nil {
		r.err = errors.Join(r.err, err)
		return
	}
	r.set(path, entry{source: source, header: tar.Header{
		Typeflag: tar.TypeReg, Mode: int64(info.Mode().Perm() | 0o444), Size: info.Size(), ModTime: info.ModTime(),
	}})
}

// tree copies a directory; skip may be nil.
func (r *rootfs) tree(dir string, skip func(path string) bool) {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case skip != nil && skip(path):
			if d.IsDir() {
				return fs.SkipDir
			}
		case d.IsDir():
			r.directory(path, 0o755, 0)
		case d.Type() == fs.ModeSymlink:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			r.symlink(path, to)
		case d.Type().IsRegular():
			r.file(path, path)
		}
		return nil
	})
	r.err = errors.Join(r.err, err)
}

// programs copies programs that are searched in PATH, and their libraries.
func (r *rootfs) programs(names ...string) {
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err != nil {
			r.err = errors.Join(r.err, err)
			continue
		}
		r.file(path, real(path))
		r.libraries(path)
	}
}

// real is a path with the links in its directories followed: what lies below
// /bin is copied to /usr/bin where the one is a link to the other.
func real(path string) string {
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		return filepath.Join(dir, filepath.Base(path))
	}
	return path
}

// libraries copies the shared libraries that programs or libraries are linked
// to, and their loader.
func (r *rootfs) libraries(files ...string) {
	// It fails if one of several files is static: what it prints of the others counts.
	out, _ := exec.Command("ldd", files...).Output()
	for line := range strings.Lines(string(out)) {
		_, path, linked := strings.Cut(line, " => ")
		if !linked {
			path = line // the loader is named by its path alone
		}
		path, _, _ = strings.Cut(strings.TrimSpace(path), " (0x")
		switch {
		case strings.HasPrefix(path, "not found"):
			r.err = errors.Join(r.err, fmt.Errorf("ldd: %s", strings.TrimSpace(line)))
		case strings.HasPrefix(path, "/") && !strings.HasSuffix(path, ":"):
			r.file(path, real(path))
		}
	}
}

// change adds an instruction as in a Dockerfile.
func (r *rootfs) change(instruction string) { r.changes = append(r.changes, instruction) }

func (r *rootfs) paths() []string {
	paths := make([]string, 0, len(r.entries))
	for p := range r.entries {
		paths = append(paths, p)
	}
	slices.Sort(paths) // parents come before what lies in them
	return paths
}

// digest names the content: by sizes and times of files, so that an image that
// exists need not be read again.
func (r *rootfs) digest() string {
	h := sha256.New()
	for _, path := range r.paths() {
		e := r.entries[path]
		fmt.Fprintf(h, "%q %q %+v\n", e.source, e.text, e.header)
	}
	fmt.Fprintf(h, "%q", r.changes)
	return hex.EncodeToString(h.Sum(nil))[:24]
}

// archive writes the files as a tar stream.
func (r *rootfs) archive(w io.Writer) error {
	tw := tar.NewWriter(w)
	for _, path := range r.paths() {
		e := r.entries[path]
		if err := tw.WriteHeader(&e.header); err != nil {
			return err
		}
		if err := e.copy(tw); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return tw.Close()
}

func (e entry) copy(w io.Writer) error {
	if e.source == "" {
		_, err := io.Copy(w, bytes.NewReader(e.text))
		return err
	}
	f, err := os.Open(e.source)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}
