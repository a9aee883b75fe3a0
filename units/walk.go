package units

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"app-rollout/units/problem"
)

const (
	maxLinks = 40 // like the kernel's MAXSYMLINKS
	maxDepth = 128
	maxSteps = 1024 // components in all, with those of links
)

// element is one directory, link or file that a path led through.
type element struct {
	path string // as a running system sees it
	fd   int    // O_PATH
	held bool   // it stays open for other walks
	stat unix.Stat_t
}

// walked is where a path leads: the last element, and all elements by which
// somebody could make the path lead elsewhere.
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

// reopenPath opens the very element that was looked at, whatever its name is now.
func (w *walked) reopenPath() string { return fmt.Sprintf("/proc/self/fd/%d", w.fd) }

func (w *walked) isDir() bool { return w.stat.Mode&unix.S_IFMT == unix.S_IFDIR }

// walk follows an absolute path below the layout's root, component by component and
// link by link. It opens nothing for reading, so it arms no device and waits for no
// FIFO, and it enters no file system that may hang. The error is a *Problem that
// names the element. It is fs.ErrNotExist as well if an element is missing and walk
// has followed no link.
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
		return unreachable(root, err)
	}
	var mount uint64
	if top.stat, mount, err = look(top.fd); err != nil {
		return &Problem{Path: root, Text: "cannot be looked at: " + trouble(err), Remedy: remedy(err)}
	}
	w.hold(l.held, above, &top)
	own := mount
	mounts := map[uint64]string{mount: ""} // id → why it must not be entered; the root's own may be

	stack := []element{top} // the directories from the root to here
	w.passed = append(w.passed, top)
	todo := split(path)
	for steps := 1; len(todo) > 0; steps++ {
		if steps > maxSteps {
			return &Problem{Path: stack[len(stack)-1].path, Text: "is reached by too long a way", Remedy: "point the links to the real place"}
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
			return &Problem{Path: here.path, Text: "is not a directory", Remedy: "correct the path"}
		}
		if printable(name) != name {
			return &Problem{Path: here.path, Text: "the path leads on through a name with control characters", Remedy: "rename it"}
		}
		if len(stack) > maxDepth {
			return &Problem{Path: e.path, Text: fmt.Sprintf("lies below more than %d directories", maxDepth), Remedy: "move it up"}
		}
		if err := w.reach(l.held, here, &e, name, unix.O_NOFOLLOW); err != nil {
			p := unreachable(e.path, err)
			if errors.Is(err, fs.ErrNotExist) && w.links == 0 {
				return &missing{p, len(todo) == 0}
			}
			return p
		}
		if e.stat, mount, err = look(e.fd); err != nil {
			return &Problem{Path: e.path, Text: "cannot be looked at: " + trouble(err), Remedy: remedy(err)}
		}
		if e.held {
			mounts[mount] = "" // a walk has entered it before
		}
		why, known := mounts[mount]
		if !known {
			why = mayHang(mount)
			mounts[mount] = why
		}
		if why != "" {
			return &Problem{Path: e.path, Text: why, Remedy: "move the files to a local one"}
		}
		if mount != own { // look may have returned old data of another file system
			if err := unix.Fstat(e.fd, &e.stat); err != nil {
				return &Problem{Path: e.path, Text: "cannot be looked at: " + trouble(err), Remedy: remedy(err)}
			}
		}
		switch e.stat.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			if w.links++; w.links > maxLinks {
				return &Problem{Path: e.path, Text: "leads through more than 40 links", Remedy: "point it to the real place"}
			}
			target, err := readlink(e.fd)
			if err != nil {
				return &Problem{Path: e.path, Text: "cannot be read: " + trouble(err), Remedy: remedy(err)}
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

// missing is the problem that an element does not exist. last says that it is the
// last one of the path, and that its directory exists.
type missing struct {
	*Problem
	last bool
}

func (m *missing) Is(target error) bool { return target == fs.ErrNotExist }
func (m *missing) Unwrap() error        { return m.Problem }

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
func unreachable(path string, err error) *Problem {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &Problem{Path: path, Text: "is not there", Remedy: "create it or correct the path"}
	case errors.Is(err, unix.ENAMETOOLONG):
		return &Problem{Path: path, Text: "has too long a name", Remedy: "correct the path"}
	}
	return &Problem{Path: path, Text: "cannot be reached: " + trouble(err), Remedy: remedy(err)}
}

// trouble is an error of a system call in words, without the paths that Go adds.
func trouble(err error) string {
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return err.Error()
}

// remedy is what to do about an error of a system call.
func remedy(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return problem.Sudo(err)
	case errors.Is(err, unix.EAGAIN): // fcntl(2), F_SETLEASE
		return "end the program that holds a lease on it"
	}
	return "see what the kernel says: dmesg"
}
