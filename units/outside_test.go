package units

import (
	"maps"
	"os"
	"strings"
	"testing"
)

// capistrano is an app as Capistrano lays it out: what outlives a release lies in
// shared, and each release has links to it.
var capistrano = map[string]string{
	"/etc/app-rollout/shop.env":                    "-> /srv/shop/current/.env",
	"/usr/bin/app":                                 "#!",
	"/srv/shop/current":                            "-> releases/1",
	"/srv/shop/releases/1/.env":                    "-> ../../shared/.env",
	"/srv/shop/releases/1/server":                  "#!",
	"/srv/shop/releases/1/log":                     "-> ../../shared/log",
	"/srv/shop/releases/1/tmp/pids":                "-> ../../../shared/tmp/pids",
	"/srv/shop/releases/1/tmp/cache/x":             "x",
	"/srv/shop/releases/1/config/database.yml":     "-> ../../../shared/config/database.yml",
	"/srv/shop/releases/1/node_modules":            "-> ../../shared/node_modules",
	"/srv/shop/releases/1/docs":                    "-> /usr/share/doc",
	"/srv/shop/releases/1/gone":                    "-> ../../shared/gone",
	"/srv/shop/shared/log/.keep":                   "",
	"/srv/shop/shared/tmp/pids/.keep":              "",
	"/srv/shop/shared/config/database.yml":         "x",
	"/srv/shop/shared/node_modules/express/app.js": "x",
	"/usr/share/doc/x":                             "x",
}

// asCapistrano is the tree with such an .env. Alice has all of /srv/shop, or, if root
// has the .env, what lies in shared/log and shared/tmp.
func asCapistrano(t *testing.T, roots bool, env string) Layout {
	t.Helper()
	needRoot(t)
	files := maps.Clone(capistrano)
	files["/srv/shop/shared/.env"] = env
	l := accountsTree(t, files)
	give := func(path string) {
		err := os.Lchown(l.Path(path), alice, alice)
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"/srv/shop/shared/log", "/srv/shop/shared/tmp/pids", "/srv/shop/shared/node_modules"} {
		give(path)
	}
	if !roots {
		for _, path := range []string{"/srv/shop", "/srv/shop/current", "/srv/shop/releases", "/srv/shop/releases/1", "/srv/shop/releases/1/.env",
			"/srv/shop/shared", "/srv/shop/shared/.env", "/srv/shop/shared/tmp"} {
			give(path)
		}
	}
	return l
}

// What leads out of a release is told, with what to set: the directory that the app
// is to run in, and those that it is to write to.
func TestOutside(t *testing.T) {
	const (
		place = "/srv/shop/shared/.env: the .env in /srv/shop/current is a link out of it, so that the app runs in /srv/shop/shared; "
		set   = "set SYSTEMD_WORKING_DIRECTORY=/srv/shop/current"
		up    = "move the .env up, as alice: mv /srv/shop/shared/.env /srv/shop/.env && ln -s /srv/shop/.env /srv/shop/shared/.env"
		write = "/srv/shop/shared/.env: the app cannot write to where log, tmp/pids in /srv/shop/releases/1 leads; set SYSTEMD_READ_WRITE_PATHS="
		root  = run + "SYSTEMD_USER=alice\n"
		here  = "SYSTEMD_WORKING_DIRECTORY=/srv/shop/current\n"
	)
	for _, c := range []struct {
		name  string
		roots bool
		env   string
		want  string
	}{
		{"root's, as it comes", true, root, place + set + "\n" + write + "'./ ./log ./tmp/pids'"},
		{"root's, in its directory", true, root + here, write + "'./ ./log ./tmp/pids'"},
		{"root's, with a directory more", true, root + here + "SYSTEMD_READ_WRITE_PATHS=./tmp\n", write + "'./tmp ./log ./tmp/pids'"},
		{"root's, as advised", true, root + here + "SYSTEMD_READ_WRITE_PATHS='./ ./log ./tmp/pids'\n", ""},
		{"alice's, as it comes", false, run, place + up + "; then " + set + "\n" + write + "'./ ./log ./tmp/pids'"},
		{"for nobody who may write", true, run + here, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := asCapistrano(t, c.roots, c.env)
			s, err := l.Read("shop")
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range l.Outside(s) {
				got = append(got, p.Error())
			}
			if got := strings.Join(got, "\n"); got != c.want {
				t.Errorf("it says\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// Where the working directory is the reason why something is refused, the refusal says
// what to do about that.
func TestOutsideRefused(t *testing.T) {
	const up = "move the .env up, as alice: mv /srv/shop/shared/.env /srv/shop/.env && ln -s /srv/shop/.env /srv/shop/shared/.env"
	for _, c := range []struct {
		roots     bool
		env, want string
	}{
		{true, "SYSTEMD_EXEC_START=./server\n", "/srv/shop/shared/.env:1: SYSTEMD_EXEC_START must name a program that is there, and the .env in /srv/shop/current" +
			" is a link out of it, so that the app runs in /srv/shop/shared; set SYSTEMD_WORKING_DIRECTORY=/srv/shop/current"},
		{true, "SYSTEMD_EXEC_START=./server\nSYSTEMD_WORKING_DIRECTORY=/srv/shop/current\n", ""},
		{false, run + "SYSTEMD_WORKING_DIRECTORY=/srv/shop/current\n", "/srv/shop/shared/.env:2: SYSTEMD_WORKING_DIRECTORY must lie inside /srv/shop/shared, the directory of the real .env; " + up},
		{true, "SYSTEMD_EXEC_START=/usr/bin/gone\n", "/srv/shop/shared/.env:1: SYSTEMD_EXEC_START must name a program that is there; correct the path"},
	} {
		l := asCapistrano(t, c.roots, c.env)
		_, err := l.Read("shop")
		if got := strings.Join(lines(err), "\n"); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.env, got, c.want)
		}
	}
}

// After the .env has moved up as advised, the directory that it is to name is inside.
func TestMovedUp(t *testing.T) {
	l := asCapistrano(t, false, run+"SYSTEMD_WORKING_DIRECTORY=/srv/shop/current\n")
	if err := os.Rename(l.Path("/srv/shop/shared/.env"), l.Path("/srv/shop/.env")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/srv/shop/.env", l.Path("/srv/shop/shared/.env")); err != nil {
		t.Fatal(err)
	}
	s, err := l.Read("shop")
	if err != nil || s.Plan.WorkingDirectory != "/srv/shop/releases/1" {
		t.Fatalf("got %+v, %v", s, err)
	}
	// The place is taken now.
	if err := os.Remove(l.Path("/srv/shop/shared/.env")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.Path("/srv/shop/shared/.env"), []byte(run+"SYSTEMD_WORKING_DIRECTORY=/srv/shop/current\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(l.Path("/srv/shop/shared/.env"), alice, alice); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Read("shop"); err == nil || strings.Contains(err.Error(), "mv ") {
		t.Errorf("it is to move to where another one lies: %v", err)
	}
}
