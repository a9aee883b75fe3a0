package units

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"app-rollout/units/dotenv"
	"app-rollout/units/problem"
)

// Source is an app's .env. Only root and the file's owner can change the file and
// every directory and link on the way to it.
type Source struct {
	App      string
	Path     string // the real file, links resolved, as a running system sees it
	Linked   bool   // a link led there
	UID, GID uint32 // the owner, whose rights decide what the file may ask for
	User     string // the owner's name in /etc/passwd, "" if there is none
	Text     []byte

	released bool // a directory on the way is a link, as in a deployment by releases
}

// ReadSource reads app's .env. The error is fs.ErrNotExist only if
// /etc/app-rollout has no entry of that name. Every other error, of a dangling link
// too, is a *Problem that says how to mend it.
func (l Layout) ReadSource(app string) (*Source, error) {
	name := EtcDir + "/" + app + ".env"
	if !ValidName(app) {
		return nil, &Problem{Path: printable(name), Text: invalidName(app)}
	}
	w, err := l.walk(name)
	if err != nil {
		var m *missing
		switch {
		case errors.As(err, &m) && m.last:
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		case errors.As(err, &m):
			return nil, m.Problem
		}
		return nil, dangling(name, err)
	}
	defer w.close()
	return l.readSource(app, w)
}

// ReadFile reads an .env outside of /etc/app-rollout as if a link in there led to
// it.
func (l Layout) ReadFile(app, path string) (*Source, error) {
	w, err := l.walk(path)
	if err != nil {
		return nil, err
	}
	defer w.close()
	src, err := l.readSource(app, w)
	if err == nil {
		src.Linked = true
	}
	return src, err
}

// dangling adds to an error of a link's target which link that is.
func dangling(name string, err error) error {
	var p *Problem
	if errors.As(err, &p) && p.Path != name {
		return &Problem{Path: name, Text: "leads to " + p.Path + ", which " + p.Text, Remedy: p.Remedy}
	}
	return err
}

func (l Layout) readSource(app string, w *walked) (*Source, error) {
	refuse := func(text, remedy string) error { return &Problem{Path: w.path, Text: text, Remedy: remedy} }
	if kind := w.stat.Mode & unix.S_IFMT; kind != unix.S_IFREG {
		return nil, refuse("is "+kindName(kind), "make it a regular file")
	}
	// The checks below are of the file that is read: they use its descriptor.
	fd, err := unix.Open(w.reopenPath(), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, refuse("cannot be read: "+trouble(err), remedy(err))
	}
	defer unix.Close(fd)
	if err := unix.Fstat(fd, &w.stat); err != nil {
		return nil, refuse("cannot be read: "+trouble(err), remedy(err))
	}
	accounts := l.accounts()
	if err := w.guard(accounts, w.stat.Uid); err != nil {
		return nil, err
	}
	if w.stat.Nlink != 1 {
		return nil, refuse(fmt.Sprintf("has %d hard links", w.stat.Nlink), fmt.Sprintf("make it a file of its own: cp %[1]s %[1]s.new && mv %[1]s.new %[1]s", shell(w.path)))
	}
	text, err := readAtMost(fd, w.stat.Size)
	if err != nil {
		p := problem.Of(err)
		return nil, refuse(p.Text, p.Remedy)
	}
	return &Source{
		App: app, Path: w.path, Linked: w.links > 0,
		UID: w.stat.Uid, GID: w.stat.Gid, User: accounts.name(w.stat.Uid),
		Text: text, released: w.midway,
	}, nil
}

// readAtMost reads a whole file that may grow while it is read.
func readAtMost(fd int, size int64) ([]byte, error) {
	tooBig := &Problem{Text: fmt.Sprintf("is larger than %d KiB", dotenv.MaxText>>10), Remedy: "keep large values in files of their own"}
	if size > dotenv.MaxText {
		return nil, tooBig
	}
	text := make([]byte, 0, size+1)
	for {
		if len(text) == cap(text) {
			text = append(text, 0)[:len(text)]
		}
		n, err := unix.Read(fd, text[len(text):cap(text)])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, &Problem{Text: "cannot be read: " + trouble(err), Remedy: remedy(err)}
		case n == 0:
			return text, nil
		}
		if text = text[:len(text)+n]; len(text) > dotenv.MaxText {
			return nil, tooBig
		}
	}
}

// guard checks that only root and owner can change the element that a path leads
// to, or make the path lead elsewhere. The error names the element that fails and
// the command that mends it.
func (w *walked) guard(a *accounts, owner uint32) error {
	for _, e := range append(w.passed[:len(w.passed):len(w.passed)], w.element) {
		if uid := e.stat.Uid; uid != 0 && uid != owner {
			who := "root"
			if owner != 0 {
				who = "root or " + a.label(owner)
			}
			return &Problem{Path: e.path, Text: fmt.Sprintf("belongs to %s, not to %s, the owner of the .env", a.label(uid), who),
				Remedy: fmt.Sprintf("chown -h %s %s", a.label(owner), shell(e.path))}
		}
		mode := e.stat.Mode
		if mode&unix.S_IFMT == unix.S_IFLNK {
			continue // a link's own mode means nothing
		}
		if mode&0o002 != 0 {
			return &Problem{Path: e.path, Text: "can be written by everybody", Remedy: "chmod o-w " + shell(e.path)}
		}
		if mode&0o020 == 0 {
			continue
		}
		if !a.private(e.stat.Gid, owner) && !a.private(e.stat.Gid, 0) {
			return &Problem{Path: e.path, Text: "can be written by a group that others are or may be in", Remedy: "chmod g-w " + shell(e.path)}
		}
		// With an access control list the group's bits are its mask, and everybody
		// whom it names may write (acl(5)).
		if hasACL(e.fd) {
			return &Problem{Path: e.path, Text: "has an access control list by which others may write", Remedy: "setfacl -b " + shell(e.path)}
		}
	}
	return nil
}

// hasACL says whether the file of an O_PATH descriptor has an access control list.
// An error counts as a list.
func hasACL(fd int) bool {
	_, err := unix.Getxattr(fmt.Sprintf("/proc/self/fd/%d", fd), "system.posix_acl_access", nil)
	return !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.EOPNOTSUPP)
}

// label names a user, by number if there is no name.
func (a *accounts) label(uid uint32) string {
	if name := a.name(uid); name != "" {
		return name
	}
	return strconv.FormatUint(uint64(uid), 10)
}

// shell quotes a path for a command that a person may paste.
func shell(path string) string {
	if strings.ContainsFunc(path, func(r rune) bool { return !strings.ContainsRune(plainWord, r) }) {
		return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	}
	return path
}

// plainWord are the characters that have no meaning of their own to a shell or to
// systemd.
const plainWord = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:=@,+-"

func kindName(kind uint32) string {
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

// Costly says whether parsing the text may take noticeably long.
func (s *Source) Costly() bool { return dotenv.Costly(s.Text) }

// dir is where the real .env lies.
func (s *Source) dir() string { return filepath.Dir(s.Path) }
