package reach

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"app-rollout/units/problem"
)

// Read reads the regular file that the way leads to, of which Way.Stat then is. Only
// root and the file's owner may be able to change it, or make the way lead
// elsewhere. A file of more than most bytes is read to one byte more.
func (w *Way) Read(a *Accounts, most int) ([]byte, error) {
	refuse := func(text, remedy string) error {
		return &problem.Problem{Path: w.Path, Text: text, Remedy: remedy}
	}
	if kind := w.Kind(); kind != unix.S_IFREG {
		return nil, refuse("is "+KindName(kind), "make it a regular file")
	}
	// The checks below are of the file that is read: they use its descriptor.
	fd, err := unix.Open(w.Reopen(), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, problem.System(w.Path, "cannot be read", err)
	}
	defer unix.Close(fd)
	if err := unix.Fstat(fd, &w.Stat); err != nil {
		return nil, problem.System(w.Path, "cannot be read", err)
	}
	if err := w.Guard(a, w.Stat.Uid); err != nil {
		return nil, err
	}
	// It has none if it was replaced since it was reached: then this is what it was.
	if w.Stat.Nlink > 1 {
		return nil, refuse(fmt.Sprintf("has %d hard links", w.Stat.Nlink), fmt.Sprintf("make it a file of its own: cp %[1]s %[1]s.new && mv %[1]s.new %[1]s", problem.Shell(w.Path)))
	}
	text, err := readAtMost(fd, most)
	if err != nil {
		return nil, problem.System(w.Path, "cannot be read", err)
	}
	return text, nil
}

// readAtMost reads a whole file that may grow while it is read, but at most one
// byte more than most.
func readAtMost(fd, most int) ([]byte, error) {
	var text []byte
	for len(text) <= most {
		text = slices.Grow(text, min(most+1-len(text), 4096))
		n, err := unix.Read(fd, text[len(text):min(cap(text), most+1)])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, err
		case n == 0:
			return text, nil
		}
		text = text[:len(text)+n]
	}
	return text, nil
}

// Guard checks that only root and owner can change the element that a path leads
// to, or make the path lead elsewhere. The error names the element that fails and
// the command that mends it.
func (w *Way) Guard(a *Accounts, owner uint32) error {
	for _, e := range append(w.passed[:len(w.passed):len(w.passed)], w.element) {
		if uid := e.Stat.Uid; uid != 0 && uid != owner {
			who := "root"
			if owner != 0 {
				who = "root or " + a.label(owner)
			}
			return &problem.Problem{Path: e.Path, Text: fmt.Sprintf("belongs to %s, not to %s, the owner of the .env", a.label(uid), who),
				Remedy: w.handOver(e, a.label(owner), a.label(uid), who)}
		}
		mode := e.Stat.Mode
		if mode&unix.S_IFMT == unix.S_IFLNK {
			continue // a link's own mode means nothing
		}
		if mode&0o002 != 0 {
			return &problem.Problem{Path: e.Path, Text: "can be written by everybody", Remedy: "chmod o-w " + problem.Shell(e.Path)}
		}
		if mode&0o020 == 0 {
			continue
		}
		if !a.private(e.Stat.Gid, owner) && !a.private(e.Stat.Gid, 0) {
			return &problem.Problem{Path: e.Path, Text: "can be written by a group that others are or may be in", Remedy: "chmod g-w " + problem.Shell(e.Path)}
		}
		// With an access control list the group's bits are its mask, and everybody
		// whom it names may write (acl(5)).
		if hasACL(e.fd) {
			return &problem.Problem{Path: e.Path, Text: "has an access control list by which others may write", Remedy: "setfacl -b " + problem.Shell(e.Path)}
		}
	}
	return nil
}

// handOver is what to do about an element that belongs to another user. A directory on
// the way is not given to anybody: it may be that user's home. And no command is named
// that changes the file at its end, for that user could lead the command elsewhere.
func (w *Way) handOver(e element, owner, other, who string) string {
	switch {
	case e.Kind() != unix.S_IFDIR || e.Path == w.Path:
		return fmt.Sprintf("chown -h %s %s", owner, problem.Shell(e.Path))
	case strings.HasPrefix(w.Path, strings.TrimSuffix(e.Path, "/")+"/"):
		return fmt.Sprintf("move %s to a directory of %s, or give it to %s", problem.Printable(w.Path), who, other)
	}
	return "point the link to " + problem.Printable(w.Path) + " itself"
}

// Roots reports whether every directory and link on the way is root's.
func (w *Way) Roots() bool {
	return !slices.ContainsFunc(w.passed, func(e element) bool { return e.Stat.Uid != 0 })
}

// hasACL says whether the file of an O_PATH descriptor has an access control list.
// An error counts as a list.
func hasACL(fd int) bool {
	_, err := unix.Getxattr(fmt.Sprintf("/proc/self/fd/%d", fd), "system.posix_acl_access", nil)
	return !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.EOPNOTSUPP)
}

// KindName is a kind of file in words; kind is its S_IFMT.
func KindName(kind uint32) string {
	switch kind {
	case unix.S_IFDIR:
		return "a directory"
	case unix.S_IFIFO:
		return "a FIFO"
	case unix.S_IFSOCK:
		return "a socket"
	case unix.S_IFCHR, unix.S_IFBLK:
		return "a device"
	}
	return "no file"
}
