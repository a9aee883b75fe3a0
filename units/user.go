package units

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"

	"app-rollout/units/dotenv"
	"app-rollout/units/problem"
	"app-rollout/units/reach"
)

// asUser decides User=: the owner of the .env, or the user that root names, or a
// dynamic user if root owns the file and names none. systemd would name a dynamic
// user after the unit. Instances of different users cannot share a port, so the
// dynamic user gets a name of the app's.
func (s *Spec) asUser(_ Layout, value string, given bool) *Problem {
	src := s.Source
	if src.UID != 0 {
		number := strconv.FormatUint(uint64(src.UID), 10)
		if !accountName(number) {
			return &Problem{Text: "has no user: the .env belongs to one that stands for none", Remedy: "chown it"}
		}
		// systemd reads a name of only digits as a number, and so as another user.
		if s.Plan.User = src.User; !accountName(src.User) || strings.Trim(src.User, "0123456789") == "" {
			s.Plan.User = number
		}
		if given && value != src.User && value != number {
			return &Problem{Text: "must be the owner of the .env", Remedy: s.otherUser()}
		}
		return nil
	}
	if !given {
		s.Plan.User, s.dynamic = dynamicUser(s.App), true
		return nil
	}
	if !accountName(value) {
		return &Problem{Text: "must be the name or number of a user"}
	}
	s.Plan.User = value
	return nil
}

// otherUser is how an app gets a user that is not the .env's owner. Nobody's directory is
// given to root for it: it may be a home.
func (s *Spec) otherUser() string {
	if s.Source.rootsWay {
		return "to name another user: chown root " + problem.Shell(s.Source.Path)
	}
	return "to name another user, put an .env of root's at " + EnvPath(s.App)
}

// dynamicUser is ar-<app>; no distribution has users of such names. A user's name
// has at most 31 bytes (UT_NAMESIZE), so a long one is cut and gets a hash.
func dynamicUser(app string) string {
	name := "ar-" + app
	if len(name) > 31 {
		sum := sha256.Sum256([]byte(app))
		name = name[:22] + "-" + hex.EncodeToString(sum[:4])
	}
	return name
}

// workingDirectory decides WorkingDirectory=, and resolves its links.
func (s *Spec) workingDirectory(l Layout, value string, given bool) *Problem {
	s.released = s.Source.released
	if !given {
		if !s.Source.Linked {
			s.Plan.WorkingDirectory = "/"
			return nil
		}
		value, s.defaulted = s.Source.dir(), true
	}
	if !strings.HasPrefix(value, "/") {
		return &Problem{Text: "must be an absolute path"}
	}
	path, isDir, linked, why := s.place(l, value)
	switch {
	case why != nil:
		return why
	case !isDir:
		return &Problem{Text: "must be a directory"}
	}
	s.Plan.WorkingDirectory = path
	if given {
		s.released = linked
	}
	return nil
}

// readWritePaths decides ReadWritePaths=, and resolves their links.
func (s *Spec) readWritePaths(l Layout, value string, given bool) *Problem {
	if !given {
		if wd := s.Plan.WorkingDirectory; wd != "/" && wd != "" {
			s.writable = []string{wd}
		}
		return nil
	}
	paths, why := splitWords(value)
	switch {
	case why != "":
		return &Problem{Text: why}
	case len(paths) > maxPaths:
		return &Problem{Text: "must be " + strconv.Itoa(maxPaths) + " paths at most", Remedy: "name a directory above them"}
	}
	for _, p := range paths {
		if rest, ok := strings.CutPrefix(p, "./"); ok && s.Plan.WorkingDirectory != "" {
			p = s.Plan.WorkingDirectory + "/" + rest
		}
		if !strings.HasPrefix(p, "/") {
			return &Problem{Text: "must be absolute paths, or begin with ./ for the working directory"}
		}
		path, _, _, why := s.place(l, p)
		if why != nil {
			return why
		}
		if path == "/" {
			return &Problem{Text: "must not be /, which would undo the sandbox"}
		}
		s.writable = append(s.writable, path)
	}
	s.writable = outermost(s.writable)
	return nil
}

// maxPaths bounds the work that one app makes for PID 1 and the kernel: each path
// is a mount in each instance.
const maxPaths = 64

// outermost leaves out the paths that lie below another one. They would add
// nothing, and they would be a risk: an app that can write to the directory around
// such a path could put a link in its place, and systemd would follow the link out
// of the sandbox at the next start.
func outermost(paths []string) []string {
	var outer []string
	for i, p := range paths {
		if !slices.ContainsFunc(paths, func(o string) bool { return o != p && inside(p, o) }) && !slices.Contains(paths[:i], p) {
			outer = append(outer, p)
		}
	}
	return outer
}

// place resolves a path from a setting, and says whether links led there. If root
// does not own the .env, the path must lie inside the real .env's directory, on a
// way that only the owner and root can change.
func (s *Spec) place(l Layout, path string) (resolved string, isDir, linked bool, why *Problem) {
	w, err := l.tree().Walk(path)
	if err != nil {
		return "", false, false, about(err)
	}
	defer w.Close()
	kind := w.Kind()
	if kind != unix.S_IFDIR && kind != unix.S_IFREG {
		return "", false, false, &Problem{Text: "must be a directory, not " + reach.KindName(kind)}
	}
	if !unitPath(w.Path) {
		return "", false, false, &Problem{Text: "has a character that systemd could not be given", Remedy: "rename the directory"}
	}
	if s.Source.UID != 0 {
		if !inside(w.Path, s.Source.dir()) {
			return "", false, false, &Problem{Text: "must lie inside " + s.Source.dir() + ", the directory of the real .env", Remedy: s.wider(l, w.Path)}
		}
		if err := w.Guard(l.tree().Accounts(), s.Source.UID); err != nil {
			return "", false, false, about(err)
		}
	}
	return w.Path, kind == unix.S_IFDIR, w.Links > 0, nil
}

// about puts the problem of a path into a sentence about a setting.
func about(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return &Problem{Text: "cannot be used: " + p.Path + " " + p.Text, Remedy: p.Remedy}
	}
	return &Problem{Text: "cannot be used"}
}

// inside says whether a resolved path is dir or lies below it.
func inside(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// unitPath says whether a path can be written into a unit. It refuses some
// characters, because no quoting works in all of systemd's path directives.
func unitPath(path string) bool {
	return !strings.ContainsAny(path, `"'\`) && !strings.HasSuffix(path, " ") && !dotenv.HasNoncharacter(path) &&
		!strings.ContainsFunc(path, func(r rune) bool { return unicode.IsControl(r) || r == unicode.ReplacementChar })
}
