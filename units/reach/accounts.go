package reach

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Accounts are /etc/passwd and /etc/group, read without NSS: the generator
// runs when NSS may wait for PID 1, which waits for the generator.
type Accounts struct {
	root   string
	read   bool
	users  []account
	groups []group
}

type account struct {
	name     string
	uid, gid uint32
}

type group struct {
	name    string
	gid     uint32
	members []string
}

// Accounts returns them unread: load reads them when they are first needed.
func (t Tree) Accounts() *Accounts { return &Accounts{root: t.Root} }

// load reads both files. It skips a missing file and a malformed line.
func (a *Accounts) load() {
	if a.read {
		return
	}
	a.read = true
	each := func(path string, do func(f []string)) {
		data, err := os.ReadFile(filepath.Join(a.root, path))
		if err != nil {
			return
		}
		for line := range strings.Lines(string(data)) {
			if f := strings.Split(strings.TrimRight(line, "\n"), ":"); len(f) >= 4 {
				do(f)
			}
		}
	}
	each("/etc/passwd", func(f []string) {
		uid, err1 := strconv.ParseUint(f[2], 10, 32)
		gid, err2 := strconv.ParseUint(f[3], 10, 32)
		if err1 == nil && err2 == nil {
			a.users = append(a.users, account{f[0], uint32(uid), uint32(gid)})
		}
	})
	each("/etc/group", func(f []string) {
		if gid, err := strconv.ParseUint(f[2], 10, 32); err == nil {
			a.groups = append(a.groups, group{f[0], uint32(gid), strings.FieldsFunc(f[3], func(r rune) bool { return r == ',' })})
		}
	})
}

// Name is the first name in /etc/passwd of a user id, "" if it has none.
func (a *Accounts) Name(uid uint32) string {
	if uid == 0 {
		return "root"
	}
	a.load()
	for _, u := range a.users {
		if u.uid == uid {
			return u.name
		}
	}
	return ""
}

// ID is the id of a user in /etc/passwd. It is false if the user has no entry
// there: a dynamic user, or one of another source of names.
func (a *Accounts) ID(name string) (uint32, bool) {
	a.load()
	for _, u := range a.users {
		if u.name == name {
			return u.uid, true
		}
	}
	return 0, false
}

// private says whether gid is the private group of uid: the user's primary
// group, of the user's name, with nobody else in it.
func (a *Accounts) private(gid, uid uint32) bool {
	a.load()
	owner := a.Name(uid)
	if owner == "" {
		return false
	}
	mine := false
	for _, u := range a.users {
		if u.gid == gid && u.uid != uid {
			return false
		}
		mine = mine || u.gid == gid && u.name == owner
	}
	named := false
	for _, g := range a.groups {
		if g.gid != gid {
			continue
		}
		named = named || g.name == owner
		for _, m := range g.members {
			if m != owner {
				return false
			}
		}
	}
	return mine && named
}

// label names a user, by number if there is no name.
func (a *Accounts) label(uid uint32) string {
	if name := a.Name(uid); name != "" {
		return name
	}
	return strconv.FormatUint(uint64(uid), 10)
}
