package units

import (
	"cmp"
	"errors"
	"io/fs"
	"path/filepath"
	"strconv"

	"app-rollout/units/dotenv"
	"app-rollout/units/problem"
	"app-rollout/units/reach"
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

	given    string // the path that led there, as in /etc/app-rollout
	rootsWay bool   // every directory and link on the way is root's
	released bool   // a directory on the way is a link, as in a deployment by releases
}

// ReadSource reads app's .env. The error is fs.ErrNotExist only if
// /etc/app-rollout has no entry of that name. Every other error, of a dangling link
// too, is a *Problem.
func (l Layout) ReadSource(app string) (*Source, error) {
	name := EnvPath(app)
	if !ValidName(app) {
		return nil, &Problem{Path: problem.Printable(name), Text: invalidName(app)}
	}
	w, err := l.tree().Walk(name)
	if err != nil {
		var m *reach.Missing
		switch {
		case errors.As(err, &m) && m.Last:
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		case errors.As(err, &m):
			return nil, m.Problem
		}
		return nil, dangling(name, err)
	}
	defer w.Close()
	return l.readSource(app, name, w)
}

// ReadFile reads an .env outside of /etc/app-rollout as if a link in there led to
// it.
func (l Layout) ReadFile(app, path string) (*Source, error) {
	w, err := l.tree().Walk(path)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	src, err := l.readSource(app, path, w)
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

func (l Layout) readSource(app, given string, w *reach.Way) (*Source, error) {
	accounts := l.tree().Accounts()
	text, err := w.Read(accounts, dotenv.MaxText)
	if err != nil {
		return nil, err
	}
	if len(text) > dotenv.MaxText {
		return nil, dotenv.TooLarge(w.Path)
	}
	return &Source{
		App: app, Path: w.Path, Linked: w.Links > 0,
		UID: w.Stat.Uid, GID: w.Stat.Gid, User: accounts.Name(w.Stat.Uid),
		Text: text, given: given, rootsWay: w.Roots(), released: w.Midway,
	}, nil
}

// Costly says whether parsing the text may take noticeably long.
func (s *Source) Costly() bool { return dotenv.Costly(s.Text) }

// owner is the name of the user that owns the file, or the number of one without a name.
func (s *Source) owner() string { return cmp.Or(s.User, strconv.FormatUint(uint64(s.UID), 10)) }

// dir is where the real .env lies.
func (s *Source) dir() string { return filepath.Dir(s.Path) }
