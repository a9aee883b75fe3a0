package units

import (
	"sync"

	"golang.org/x/sys/unix"
)

// maxHeld is far below the number of descriptors that a process may have.
const maxHeld = 256

// held are directories that a walk has opened and that stay open for other walks:
// a run over many apps comes through the same directories each time.
//
// Only the place of a directory is cached. Each walk asks anew who owns it and who
// may write to it. A directory is cached only if its parent is, so that a cached
// path never mixes two moments. While the directory is open, the kernel gives the
// id of its mount to no other mount.
type held struct {
	mu   sync.Mutex
	dirs map[string]int // O_PATH descriptors by the real paths

	unitDirs func() []string
}

// Hold is the layout for one short run over many apps. During the run a directory
// that is renamed is still found under its old name, and a new one may not be
// found. release ends the run.
func (l Layout) Hold() (holding Layout, release func()) {
	h := &held{dirs: map[string]int{}, unitDirs: sync.OnceValue(l.unitDirs)}
	l.held = h
	return l, func() {
		for _, fd := range h.dirs {
			unix.Close(fd)
		}
	}
}

// reach gives an element its descriptor: the cached one, or a new one.
func (w *walked) reach(h *held, in element, e *element, name string, flags int) (err error) {
	if h != nil && in.held {
		h.mu.Lock()
		e.fd, e.held = h.dirs[e.path]
		h.mu.Unlock()
		if e.held {
			return nil
		}
	}
	if e.fd, err = unix.Openat(in.fd, name, unix.O_PATH|unix.O_CLOEXEC|flags, 0); err == nil {
		w.open = append(w.open, e.fd)
	}
	return err
}

// hold caches a directory that reach has just opened.
func (w *walked) hold(h *held, in element, e *element) {
	if h == nil || !in.held || e.held {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, other := h.dirs[e.path]; !other && len(h.dirs) < maxHeld {
		h.dirs[e.path], e.held = e.fd, true
		w.open = w.open[:len(w.open)-1]
	}
}
