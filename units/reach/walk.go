// Package reach leads to files that may belong to somebody who means harm. It
// follows a path itself, component by component and link by link, so that each
// element is looked at before it is used, and says who could change the file or make
// the path lead elsewhere.
package reach

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"app-rollout/units/problem"
)

const (
	maxLinks = 40 // like the kernel's MAXSYMLINKS
	maxDepth = 128
	maxSteps = 1024 // components in all, with those of links
)

// Tree is the tree of files in which paths are followed.
type Tree struct {
	Root  string // "" for the running system; another one for tests
	Cache *Cache // nil: every directory is opened anew
}

// element is one directory, link or file that a path led through.
type element struct {
	Path   string // as a running system sees it
	Stat   unix.Stat_t
	fd     int  // O_PATH
	cached bool // the cache keeps it open for other walks
}

// Kind is the element's type: unix.S_IFREG, unix.S_IFDIR ….
func (e element) Kind() uint32 { return e.Stat.Mode & unix.S_IFMT }

// Way is where a path leads: the last element, and all elements by which somebody
// could make the path lead elsewhere.
type Way struct {
	element           // the end, never a link
	Links   int       // how many links were followed
	Midway  bool      // one of them to a directory on the way
	passed  []element // directories and links on the way
	open    []int     // descriptors to close
}

// Close closes what the walk has opened.
func (w *Way) Close() {
	for _, fd := range w.open {
		unix.Close(fd)
	}
}

// Reopen is a path to the very element that was looked at, whatever its name is now.
func (w *Way) Reopen() string { return fmt.Sprintf("/proc/self/fd/%d", w.fd) }

// Entry is the type of an entry of the directory at the end of the way, and its
// permissions. A link is not followed.
func (w *Way) Entry(name string) (mode uint32, err error) {
	var st unix.Stat_t
	err = unix.Fstatat(w.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT)
	return st.Mode, err
}

// Walk follows an absolute path. It opens nothing for reading, so it arms no device
// and waits for no FIFO, and it enters no file system that may hang. The error is a
// *problem.Problem that names the element, and a *Missing if an element is missing
// and no link was followed.
func (t Tree) Walk(path string) (*Way, error) {
	w := &walk{Way: new(Way), cache: t.Cache, todo: split(path)}
	if err := w.follow(t.Root); err != nil {
		w.Close()
		return nil, err
	}
	return w.Way, nil
}

// Missing is the problem that an element does not exist; it is fs.ErrNotExist too.
type Missing struct {
	*problem.Problem
	Last bool // it is the last one of the path, and its directory exists
}

func (m *Missing) Is(target error) bool { return target == fs.ErrNotExist }
func (m *Missing) Unwrap() error        { return m.Problem }

// walk is a walk under way.
type walk struct {
	*Way
	cache  *Cache
	todo   []string          // the components that are left
	stack  []element         // the directories from the root to here
	mount  uint64            // the one that the root lies on
	mounts map[uint64]string // mount → why it must not be entered, "" if it may be
}

func (w *walk) follow(root string) error {
	if err := w.begin(root); err != nil {
		return err
	}
	for steps := 1; len(w.todo) > 0; steps++ {
		if steps > maxSteps {
			return &problem.Problem{Path: w.here().Path, Text: "is reached by too long a way", Remedy: "point the links to the real place"}
		}
		if err := w.step(); err != nil {
			return err
		}
	}
	w.element = w.here()
	return nil
}

func (w *walk) here() element { return w.stack[len(w.stack)-1] }

// begin opens the root.
func (w *walk) begin(root string) (err error) {
	if root == "" {
		root = "/"
	}
	above := element{fd: unix.AT_FDCWD, cached: true} // there is no other root
	top := element{Path: "/"}
	if err := w.reach(above, &top, root, unix.O_DIRECTORY); err != nil {
		return unreachable(root, err)
	}
	if top.Stat, w.mount, err = look(top.fd); err != nil {
		return problem.System(root, "cannot be looked at", err)
	}
	w.mounts = map[uint64]string{w.mount: ""}
	w.enter(above, top)
	return nil
}

// step follows the next component.
func (w *walk) step() error {
	name := w.todo[0]
	w.todo = w.todo[1:]
	if name == ".." {
		w.stack = w.stack[:max(1, len(w.stack)-1)]
		return nil
	}
	here := w.here()
	e := element{Path: strings.TrimSuffix(here.Path, "/") + "/" + name}
	switch {
	case here.Kind() != unix.S_IFDIR:
		return &problem.Problem{Path: here.Path, Text: "is not a directory", Remedy: "correct the path"}
	case problem.Printable(name) != name:
		return &problem.Problem{Path: here.Path, Text: "the path leads on through a name with control characters", Remedy: "rename it"}
	case len(w.stack) > maxDepth:
		return &problem.Problem{Path: e.Path, Text: fmt.Sprintf("lies below more than %d directories", maxDepth), Remedy: "move it up"}
	}
	if err := w.reach(here, &e, name, unix.O_NOFOLLOW); err != nil {
		p := unreachable(e.Path, err)
		if errors.Is(err, fs.ErrNotExist) && w.Links == 0 {
			return &Missing{p, len(w.todo) == 0}
		}
		return p
	}
	if err := w.look(&e); err != nil {
		return err
	}
	switch e.Kind() {
	case unix.S_IFLNK:
		return w.link(e)
	case unix.S_IFDIR:
		w.enter(here, e)
	default:
		w.stack = append(w.stack, e)
	}
	return nil
}

// reach gives an element its descriptor: the cached one, or a new one.
func (w *walk) reach(parent element, e *element, name string, flags int) (err error) {
	if w.cache.find(parent, e) {
		return nil
	}
	if e.fd, err = unix.Openat(parent.fd, name, unix.O_PATH|unix.O_CLOEXEC|flags, 0); err == nil {
		w.open = append(w.open, e.fd)
	}
	return err
}

// look looks at an element that was reached, unless its file system may hang.
func (w *walk) look(e *element) error {
	var mount uint64
	var err error
	if e.Stat, mount, err = look(e.fd); err != nil {
		return problem.System(e.Path, "cannot be looked at", err)
	}
	if e.cached {
		w.mounts[mount] = "" // a walk has entered it before
	}
	why, known := w.mounts[mount]
	if !known {
		why = mayHang(mount)
		w.mounts[mount] = why
	}
	if why != "" {
		return &problem.Problem{Path: e.Path, Text: why, Remedy: "move the files to a local one"}
	}
	if mount != w.mount { // look may have returned old data of another file system
		if err := unix.Fstat(e.fd, &e.Stat); err != nil {
			return problem.System(e.Path, "cannot be looked at", err)
		}
	}
	return nil
}

// enter goes on from a directory that was just reached.
func (w *walk) enter(parent, dir element) {
	if w.cache.keep(parent, &dir) {
		w.open = w.open[:len(w.open)-1]
	}
	w.passed = append(w.passed, dir)
	w.stack = append(w.stack, dir)
}

// link puts what a link says before what is left of the path.
func (w *walk) link(e element) error {
	if w.Links++; w.Links > maxLinks {
		return &problem.Problem{Path: e.Path, Text: "leads through more than 40 links", Remedy: "point it to the real place"}
	}
	target, err := readlink(e.fd)
	if err != nil {
		return problem.System(e.Path, "cannot be read", err)
	}
	w.Midway = w.Midway || len(w.todo) > 0
	w.passed = append(w.passed, e)
	if strings.HasPrefix(target, "/") {
		w.stack = w.stack[:1]
	}
	w.todo = append(split(target), w.todo...)
	return nil
}

// split cuts a path into its components, without "." and empty ones.
func split(path string) []string {
	var parts []string
	for p := range strings.SplitSeq(path, "/") {
		if p != "" && p != "." {
			parts = append(parts, p)
		}
	}
	return parts
}

func readlink(fd int) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// unreachable says why an element cannot be opened, and what to do about it.
func unreachable(path string, err error) *problem.Problem {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &problem.Problem{Path: path, Text: "is not there", Remedy: "create it or correct the path"}
	case errors.Is(err, unix.ENAMETOOLONG):
		return &problem.Problem{Path: path, Text: "has too long a name", Remedy: "correct the path"}
	}
	return problem.System(path, "cannot be reached", err)
}
