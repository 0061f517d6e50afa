package file

import (
	"slices"
	"sync"
)

// maxDurable bounds how many directories are held open.
const maxDurable = 64

// durableDirs remembers directories whose own names are known to be durable: to
// sync a directory that has nothing new costs a flush of the disk all the same, and
// an object lies several of them deep. Each is held open, so that one which was
// removed and made anew, by whomever, is not taken for it. The zero value is ready;
// it is safe for concurrent use.
type durableDirs struct {
	mu   sync.Mutex
	held map[string]heldDir
	old  []string // the keys of held, oldest first
}

// known reports whether the name of the directory is durable.
func (d *durableDirs) known(dir string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := d.held[dir]
	if h == nil {
		return false
	}
	if h.Is(dir) {
		return true
	}
	d.forget(dir)
	return false
}

// add notes that the name of a directory is durable that was taken hold of
// before it was made so.
func (d *durableDirs) add(dir string, h heldDir) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.held[dir] != nil || !h.Is(dir) {
		_ = h.Close() // it was only read
		return
	}
	if d.held == nil {
		d.held = map[string]heldDir{}
	}
	if len(d.old) >= maxDurable {
		d.forget(d.old[0])
	}
	d.held[dir] = h
	d.old = append(d.old, dir)
}

// forget lets go of a directory. The lock is held.
func (d *durableDirs) forget(dir string) {
	_ = d.held[dir].Close() // it was only read
	delete(d.held, dir)
	d.old = slices.DeleteFunc(d.old, func(o string) bool { return o == dir })
}
