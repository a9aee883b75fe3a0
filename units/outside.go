package units

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"app-rollout/units/problem"
)

// Layouts in which links lead out of a release: the .env and the directories that the
// app writes to lie beside the releases, as Capistrano has them in shared/.

// Outside is advice for an app with such links. It reads directories, so that it is
// not for the boot.
func (l Layout) Outside(s *Spec) (all []*Problem) {
	if dir, p := s.apart(l); p != nil {
		all = append(all, &Problem{Path: s.Source.Path, Text: p.Text, Remedy: p.Remedy})
		// What follows is said of the directory that the app is to run in.
		moved := *s
		if moved.Plan.WorkingDirectory = dir; s.Env["SYSTEMD_READ_WRITE_PATHS"] == "" {
			moved.writable = []string{dir}
		}
		s = &moved
	}
	links := s.readOnly(l)
	if len(links) == 0 {
		return all
	}
	value := s.Env["SYSTEMD_READ_WRITE_PATHS"]
	if value == "" {
		value = "./"
	}
	for _, link := range links {
		if link = "./" + link; strings.Contains(link, " ") {
			link = `"` + link + `"`
		}
		value += " " + link
	}
	return append(all, &Problem{Path: s.Source.Path, Text: "the app cannot write to where " + strings.Join(links, ", ") + " in " + s.Plan.WorkingDirectory + " leads",
		Remedy: "set SYSTEMD_READ_WRITE_PATHS='" + value + "'"})
}

// apart says that the app runs where its real .env lies, though what leads there
// names another directory, in which the .env is a link; dir is that directory. It is
// nil if that is not so.
func (s *Spec) apart(l Layout) (dir string, why *Problem) {
	if !s.defaulted {
		return "", nil
	}
	named := l.enteredBy(s.Source.given)
	if !filepath.IsAbs(named) || !unitPath(named) {
		return "", nil
	}
	w, err := l.tree().Walk(named)
	if err != nil {
		return "", nil
	}
	defer w.Close()
	if w.Kind() != unix.S_IFDIR || w.Path == s.Source.dir() {
		return "", nil
	}
	remedy := "set SYSTEMD_WORKING_DIRECTORY='" + named + "'"
	if !strings.Contains(named, " ") {
		remedy = "set SYSTEMD_WORKING_DIRECTORY=" + named
	}
	if s.Source.UID != 0 && !inside(w.Path, s.Source.dir()) {
		remedy = problem.Join(s.wider(l, w.Path), "then "+remedy)
	}
	return w.Path, &Problem{Text: "the .env in " + named + " is a link out of it, so that the app runs in " + s.Source.dir(), Remedy: remedy}
}

// enteredBy is the directory in which a path says that the .env lies, the last one of
// those in /etc/app-rollout if one leads to another; "" if that cannot be told.
func (l Layout) enteredBy(path string) string {
	for range 40 { // as many links as a path may have
		if filepath.Dir(path) != EtcDir {
			return filepath.Dir(path)
		}
		target, err := os.Readlink(l.Path(path))
		if err != nil {
			return ""
		}
		if !strings.HasPrefix(target, "/") {
			target = EtcDir + "/" + target
		}
		path = filepath.Clean(target)
	}
	return ""
}

// wider is what the owner of an .env does so that a path may be named in it: the .env
// moves up to a directory that is the owner's and is above both. It is not for root to
// type, whom the owner could lead elsewhere. If there is no such directory, only root can
// help.
func (s *Spec) wider(l Layout, path string) string {
	up := s.Source.dir()
	for !inside(path, up) {
		up = filepath.Dir(up)
	}
	name := filepath.Base(s.Source.Path)
	w, err := l.tree().Walk(up)
	if err != nil {
		return s.byRoot()
	}
	defer w.Close()
	if _, err := w.Entry(name); w.Stat.Uid != s.Source.UID || w.Guard(l.tree().Accounts(), s.Source.UID) != nil || !errors.Is(err, unix.ENOENT) {
		return s.byRoot()
	}
	from, to := problem.Shell(s.Source.Path), problem.Shell(up+"/"+name)
	return "move the .env up, as " + s.Source.owner() + ": mv " + from + " " + to + " && ln -s " + to + " " + from
}

// byRoot is how root lets an app have a path that is not its owner's. Nobody's directory
// is given to root for it: it may be a home.
func (s *Spec) byRoot() string {
	if s.Source.rootsWay {
		return fmt.Sprintf("for another one, chown root %s, and set SYSTEMD_USER=%s in it", problem.Shell(s.Source.Path), s.Source.owner())
	}
	return fmt.Sprintf("for another one, put an .env of root's at %s, with SYSTEMD_USER=%s in it", EnvPath(s.App), s.Source.owner())
}

// mostLooked bounds how many entries of a release are looked at.
const mostLooked = 4096

// installed are directories of what an app needs, but does not write to.
var installed = []string{"node_modules", "vendor", ".bundle", "venv", ".venv", ".git"}

// readOnly are the links, up to two levels below the working directory, that lead to
// directories that the app's user may write to, but the app in its sandbox may not.
// They are relative to the working directory.
func (s *Spec) readOnly(l Layout) (links []string) {
	if s.Plan.WorkingDirectory == "/" {
		return nil
	}
	looked := 0
	var look func(below string, deeper bool)
	look = func(below string, deeper bool) {
		for _, e := range l.entries(s.Plan.WorkingDirectory + "/" + below) {
			if looked++; looked > mostLooked {
				return
			}
			switch path := below + e.Name(); {
			case slices.Contains(installed, e.Name()):
			case e.Type() == fs.ModeSymlink && s.leadsToReadOnly(l, s.Plan.WorkingDirectory+"/"+path):
				links = append(links, path)
			case e.IsDir() && deeper:
				look(path+"/", false)
			}
		}
	}
	look("", true)
	return links
}

// leadsToReadOnly says whether a link leads to a directory that the sandbox makes
// read-only, though the app's user may write there, and that a setting may name.
func (s *Spec) leadsToReadOnly(l Layout, path string) bool {
	to, isDir, _, why := s.place(l, path)
	if why != nil || !isDir || !unitPath(path) || to == "/" || inside(to, "/tmp") || inside(to, "/var/tmp") ||
		slices.ContainsFunc(s.writable, func(w string) bool { return inside(to, w) }) {
		return false
	}
	w, err := l.tree().Walk(to)
	if err != nil {
		return false
	}
	defer w.Close()
	uid, known := l.UserID(s.Plan.User)
	if !known {
		uid, known = s.Source.UID, s.Source.UID != 0
	}
	return known && w.Stat.Uid == uid || w.Stat.Mode&0o022 != 0
}

// entries are those of a directory, in the order of their names; none if it cannot be
// read.
func (l Layout) entries(dir string) []os.DirEntry {
	w, err := l.tree().Walk(dir)
	if err != nil {
		return nil
	}
	defer w.Close()
	if w.Kind() != unix.S_IFDIR {
		return nil
	}
	all, _ := os.ReadDir(w.Reopen())
	return all
}
