package units

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	maxLinks = 40 // as the kernel, MAXSYMLINKS
	maxDepth = 128
	maxSteps = 1024 // components in all, those of links included
)

// element is one directory, link or file that a path led through.
type element struct {
	path string // as a running system sees it
	fd   int    // O_PATH
	held bool   // for other walks too
	stat unix.Stat_t
}

// walked is where a path led: the last element, and all that decide who can
// make the path lead elsewhere.
type walked struct {
	element           // the end, never a link
	passed  []element // directories and links on the way
	links   int       // how many links were followed
	midway  bool      // one of them to a directory on the way
	open    []int
}

func (w *walked) close() {
	for _, fd := range w.open {
		unix.Close(fd)
	}
}

// reopenPath leads to the very element that was looked at.
func (w *walked) reopenPath() string { return fmt.Sprintf("/proc/self/fd/%d", w.fd) }

func (w *walked) isDir() bool { return w.stat.Mode&unix.S_IFMT == unix.S_IFDIR }

// walk follows an absolute path, component by component and link by link,
// below the layout's root, as if it were the system's. Nothing is opened for
// reading, so no device is armed and no FIFO waited for, and no file system is
// entered that may hang. The error is a *Problem that names the element; it is
// fs.ErrNotExist as well if an element is missing and no link was followed.
func (l Layout) walk(path string) (*walked, error) {
	w := new(walked)
	if err := l.follow(w, path); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (l Layout) follow(w *walked, path string) error {
	root := l.Root
	if root == "" {
		root = "/"
	}
	above := element{fd: unix.AT_FDCWD, held: true} // there is no other root
	top := element{path: "/"}
	err := w.reach(l.held, above, &top, root, unix.O_DIRECTORY)
	if err != nil {
		return &Problem{Path: root, Text: unreachable(err)}
	}
	var mount uint64
	if top.stat, mount, err = look(top.fd); err != nil {
		return &Problem{Path: root, Text: "cannot be looked at: " + trouble(err)}
	}
	w.hold(l.held, above, &top)
	own := mount
	mounts := map[uint64]string{mount: ""} // id → why not; the root's own is taken as it is

	stack := []element{top} // the directories from the root to here
	w.passed = append(w.passed, top)
	todo := split(path)
	for steps := 1; len(todo) > 0; steps++ {
		if steps > maxSteps {
			return &Problem{Path: stack[len(stack)-1].path, Text: "is reached by too long a way; point the links to the real place"}
		}
		name := todo[0]
		todo = todo[1:]
		if name == ".." {
			if len(stack) > 1 {
				stack = stack[:len(stack)-1]
			}
			continue
		}
		here := stack[len(stack)-1]
		e := element{path: strings.TrimSuffix(here.path, "/") + "/" + name}
		if here.stat.Mode&unix.S_IFMT != unix.S_IFDIR {
			return &Problem{Path: here.path, Text: "is not a directory; correct the path"}
		}
		if printable(name) != name {
			return &Problem{Path: here.path, Text: "the path leads on through a name with control characters; rename it"}
		}
		if len(stack) > maxDepth {
			return &Problem{Path: e.path, Text: fmt.Sprintf("lies below more than %d directories; move it up", maxDepth)}
		}
		if err := w.reach(l.held, here, &e, name, unix.O_NOFOLLOW); err != nil {
			p := &Problem{Path: e.path, Text: unreachable(err)}
			if errors.Is(err, fs.ErrNotExist) && w.links == 0 {
				return &missing{p, len(todo) == 0}
			}
			return p
		}
		if e.stat, mount, err = look(e.fd); err != nil {
			return &Problem{Path: e.path, Text: "cannot be looked at: " + trouble(err)}
		}
		if e.held {
			mounts[mount] = "" // else it would not be held
		}
		why, known := mounts[mount]
		if !known {
			why = mayHang(mount)
			mounts[mount] = why
		}
		if why != "" {
			return &Problem{Path: e.path, Text: why + "; move the files to a local one"}
		}
		if mount != own { // what the kernel knew of another may be old
			if err := unix.Fstat(e.fd, &e.stat); err != nil {
				return &Problem{Path: e.path, Text: "cannot be looked at: " + trouble(err)}
			}
		}
		switch e.stat.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			if w.links++; w.links > maxLinks {
				return &Problem{Path: e.path, Text: "leads through more than 40 links; point it to the real place"}
			}
			target, err := readlink(e.fd)
			if err != nil {
				return &Problem{Path: e.path, Text: "cannot be read: " + trouble(err)}
			}
			w.midway = w.midway || len(todo) > 0
			w.passed = append(w.passed, e)
			if strings.HasPrefix(target, "/") {
				stack = stack[:1]
			}
			todo = append(split(target), todo...)
		case unix.S_IFDIR:
			w.hold(l.held, here, &e)
			w.passed = append(w.passed, e)
			stack = append(stack, e)
		default:
			stack = append(stack, e)
		}
	}
	w.element = stack[len(stack)-1]
	return nil
}

// missing is the problem that an element is not there. last: it is the last
// one of the path, its directory being there.
type missing struct {
	*Problem
	last bool
}

func (m *missing) Is(target error) bool { return target == fs.ErrNotExist }
func (m *missing) Unwrap() error        { return m.Problem }

// split cuts a path into its components; "." and empty ones mean nothing.
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

// unreachable says why a path leads no further, and what to do about it.
func unreachable(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "is not there; create it or correct the path"
	case errors.Is(err, unix.ENAMETOOLONG):
		return "has too long a name; correct the path"
	}
	return "cannot be reached: " + trouble(err)
}

// trouble is an error of the system's in words, without the paths that Go adds,
// and what to do about it. What to do for want of rights, the commands say.
func trouble(err error) string {
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return err.Error()
	case errors.Is(err, unix.EAGAIN): // fcntl(2), F_SETLEASE
		return err.Error() + "; end the program that holds a lease on it"
	}
	return err.Error() + "; see what the kernel says: dmesg"
}
