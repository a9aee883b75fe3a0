package units

import (
	"sync"

	"golang.org/x/sys/unix"
)

// maxHeld is far below the number of descriptors that a process may have.
const maxHeld = 256

// held are directories that walks came through, kept open for other walks: a
// run over many apps comes through the same ones each time. Only where they are
// is kept; whose they are and who may write to them is asked at each walk. One
// is held only below one that is, so that no way is put together from two
// moments; and while it is, its mount's number is not another's.
type held struct {
	mu   sync.Mutex
	dirs map[string]int // O_PATH descriptors by the real paths

	unitDirs func() []string
}

// Hold is the layout for one short run over many apps: a directory that is
// renamed while it lasts is found under its old name, and one that comes may not
// be. Release ends it.
func (l Layout) Hold() (holding Layout, release func()) {
	h := &held{dirs: map[string]int{}, unitDirs: sync.OnceValue(l.unitDirs)}
	l.held = h
	return l, func() {
		for _, fd := range h.dirs {
			unix.Close(fd)
		}
	}
}

// reach gives an element its descriptor: the one that is held, or a new one.
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

// hold keeps a directory open that reach has just opened.
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
