package reach

import (
	"sync"

	"golang.org/x/sys/unix"
)

// maxCached is far below the number of descriptors that a process may have.
const maxCached = 256

// Cache is directories that a walk has opened and that stay open for other walks:
// a run over many apps comes through the same directories each time.
//
// Only the place of a directory is cached. Each walk asks anew who owns it and who
// may write to it. A directory is cached only if its parent is, so that a cached
// path never mixes two moments. While the directory is open, the kernel gives the
// id of its mount to no other mount.
type Cache struct {
	mu   sync.Mutex
	dirs map[string]int // O_PATH descriptors by the real paths
}

// NewCache is empty. Close closes what it holds by then.
func NewCache() *Cache { return &Cache{dirs: map[string]int{}} }

// Close ends the use of the cache.
func (c *Cache) Close() {
	for _, fd := range c.dirs {
		unix.Close(fd)
	}
}

// find gives an element that lies in parent its descriptor, if it is cached.
func (c *Cache) find(parent element, e *element) bool {
	if c == nil || !parent.cached {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e.fd, e.cached = c.dirs[e.Path]
	return e.cached
}

// keep takes over the descriptor of a directory that has just been opened, and says
// whether it did.
func (c *Cache) keep(parent element, e *element) bool {
	if c == nil || !parent.cached || e.cached {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, other := c.dirs[e.Path]; other || len(c.dirs) >= maxCached {
		return false
	}
	c.dirs[e.Path], e.cached = e.fd, true
	return true
}
