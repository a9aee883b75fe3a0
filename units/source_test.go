package units

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"app-rollout/units/dotenv/dotenvtest"
)

// alice owns what a test gives her, or, if it may give nothing away, what it
// makes itself.
var alice = func() int {
	if uid := os.Getuid(); uid != 0 {
		return uid
	}
	return 1001
}()

const (
	bob   = 1002
	carol = 1003

	groups = "root:x:0:\nusers:x:100:\nalice:x:1001:\nbob:x:1002:alice\nwww:x:33:\n"
)

var passwd = fmt.Sprintf("root:x:0:0::/root:/bin/sh\nalice:x:%d:1001::/home/alice:/bin/sh\nbob:x:1002:1002::/home/bob:/bin/sh\ncarol:x:1003:100::/:/bin/sh\n", alice)

// accountsTree is a tree with users: alice has a private group, bob's has
// another member, carol's primary group is everybody's.
func accountsTree(t *testing.T, files map[string]string) Layout {
	t.Helper()
	files["/etc/passwd"], files["/etc/group"] = passwd, groups
	return tree(t, files)
}

// own gives a file to somebody.
type own struct {
	path     string
	uid, gid int
}

// fileMode changes who may do what with a file.
type fileMode struct {
	path string
	mode os.FileMode
}

// release is an app that is deployed by releases.
var release = map[string]string{
	"/etc/app-rollout/shop.env":    "-> /srv/shop/current/.env",
	"/srv/shop/current":            "-> releases/12",
	"/srv/shop/releases/12/.env":   "A=1\n",
	"/srv/shop/releases/12/app.js": "x",
}

// alices are all of it, as alice's.
var alices = []own{
	{"/srv/shop", alice, alice}, {"/srv/shop/current", alice, alice}, {"/srv/shop/releases", alice, alice},
	{"/srv/shop/releases/12", alice, alice}, {"/srv/shop/releases/12/.env", alice, alice},
}

// plain is an app whose .env lies in place.
var plain = map[string]string{"/etc/app-rollout/shop.env": "A=1\n"}

// sources are apps, and what reading their .env gives.
var sources = []struct {
	name   string
	files  map[string]string
	owners []own
	modes  []fileMode
	path   string // of the source
	user   string
	err    string
}{
	{name: "root's file", files: plain, path: "/etc/app-rollout/shop.env", user: "root"},
	{name: "root's release", files: release, path: "/srv/shop/releases/12/.env", user: "root"},
	{name: "alice's release", files: release, owners: alices, path: "/srv/shop/releases/12/.env", user: "alice"},
	{name: "alice's file in place", files: plain, owners: []own{{"/etc/app-rollout/shop.env", alice, alice}}, path: "/etc/app-rollout/shop.env", user: "alice"},
	{name: "umask 002 and a private group", files: release, owners: alices,
		modes: []fileMode{{"/srv/shop/releases", 0o775}, {"/srv/shop/releases/12/.env", 0o664}}, path: "/srv/shop/releases/12/.env", user: "alice"},

	{name: "another user's file on root's way", files: release, owners: alices[:4],
		err: "/srv/shop: belongs to alice, not to root, the owner of the .env; move /srv/shop/releases/12/.env to a directory of root, or give it to alice"},
	{name: "root's file behind a link in another user's directory", owners: []own{{"/home/alice", alice, alice}},
		files: map[string]string{"/etc/app-rollout/shop.env": "-> /home/alice/.env", "/home/alice/.env": "-> /srv/shop/.env", "/srv/shop/.env": "A=1\n"},
		err:   "/home/alice: belongs to alice, not to root, the owner of the .env; point the link to /srv/shop/.env itself"},
	{name: "another user's link", files: release, owners: []own{{"/srv/shop/current", alice, alice}, {"/srv/shop/releases/12/.env", bob, bob}},
		err: "/srv/shop/current: belongs to alice, not to root or bob, the owner of the .env; chown -h bob /srv/shop/current"},
	{name: "a user's link to a root file", files: release, owners: []own{{"/srv/shop/current", alice, alice}},
		err: "/srv/shop/current: belongs to alice, not to root, the owner of the .env; chown -h root /srv/shop/current"},
	{name: "writable by all", files: plain, modes: []fileMode{{"/etc/app-rollout/shop.env", 0o646}},
		err: "/etc/app-rollout/shop.env: can be written by everybody; chmod o-w /etc/app-rollout/shop.env"},
	{name: "a directory writable by all", files: release, modes: []fileMode{{"/srv/shop/releases", 0o757}},
		err: "/srv/shop/releases: can be written by everybody; chmod o-w /srv/shop/releases"},
	{name: "a sticky directory is writable all the same", files: release, modes: []fileMode{{"/srv/shop/releases", 0o777 | os.ModeSticky}},
		err: "/srv/shop/releases: can be written by everybody; chmod o-w /srv/shop/releases"},
	{name: "the directory of the links writable by all", files: plain, modes: []fileMode{{"/etc/app-rollout", 0o777}},
		err: "/etc/app-rollout: can be written by everybody; chmod o-w /etc/app-rollout"},
	{name: "writable by a group of services", files: plain, owners: []own{{"/etc/app-rollout/shop.env", 0, 33}}, modes: []fileMode{{"/etc/app-rollout/shop.env", 0o664}},
		err: "/etc/app-rollout/shop.env: can be written by a group that others are or may be in; chmod g-w /etc/app-rollout/shop.env"},
	{name: "a private group with a guest", files: plain, owners: []own{{"/etc/app-rollout/shop.env", bob, bob}}, modes: []fileMode{{"/etc/app-rollout/shop.env", 0o664}},
		err: "/etc/app-rollout/shop.env: can be written by a group that others are or may be in; chmod g-w /etc/app-rollout/shop.env"},
	{name: "a primary group of many", files: plain, owners: []own{{"/etc/app-rollout/shop.env", carol, 100}}, modes: []fileMode{{"/etc/app-rollout/shop.env", 0o664}},
		err: "/etc/app-rollout/shop.env: can be written by a group that others are or may be in; chmod g-w /etc/app-rollout/shop.env"},
}

// TestRootOnly: what only root may ask for is told with a drop-in. That the file becomes
// root's is advice only where all directories on the way are root's.
func TestRootOnly(t *testing.T) {
	needRoot(t)
	const text = "SYSTEMD_EXEC_START=/usr/bin/app\nSYSTEMD_CLUSTER_MODE=yes\nSYSTEMD_MEMORY_MAX=1G\n"
	const dropIn = "remove the line and set MemoryMax= in a drop-in: systemctl edit --force shop@.service"
	for path, want := range map[string]string{
		"/etc/app-rollout/shop.env": "chown root /etc/app-rollout/shop.env, and set SYSTEMD_USER=alice in it, or " + dropIn,
		"/home/alice/.env":          dropIn,
	} {
		files := map[string]string{path: text, "/usr/bin/app": "#!"}
		if path != EnvPath("shop") {
			files[EnvPath("shop")] = "-> " + path
		}
		l := accountsTree(t, files)
		err := os.Lchown(l.Path(path), alice, alice)
		if path != EnvPath("shop") {
			err = errors.Join(err, os.Lchown(l.Path(filepath.Dir(path)), alice, alice))
		}
		if err != nil {
			t.Fatal(err)
		}
		_, err = l.Read("shop")
		if got := strings.Join(lines(err), "\n"); got != path+":3: SYSTEMD_MEMORY_MAX can only be set in an .env that belongs to root; "+want {
			t.Errorf("%s", got)
		}
	}
}

func TestReadSource(t *testing.T) {
	for _, c := range sources {
		t.Run(c.name, func(t *testing.T) {
			needRoot(t)
			l := accountsTree(t, maps.Clone(c.files))
			for _, o := range c.owners {
				if err := os.Lchown(l.Path(o.path), o.uid, o.gid); err != nil {
					t.Fatal(err)
				}
			}
			for _, m := range c.modes {
				if err := os.Chmod(l.Path(m.path), m.mode); err != nil {
					t.Fatal(err)
				}
			}
			for _, l := range cachedAndNot(t, l) {
				src, err := l.ReadSource("shop")
				if got := strings.Join(lines(err), "\n"); got != c.err {
					t.Fatalf("error is\n%s\nwant\n%s", got, c.err)
				}
				if err != nil {
					if errors.Is(err, fs.ErrNotExist) {
						t.Error("a refused file counts as missing")
					}
					continue
				}
				if src.Path != c.path || src.User != c.user || string(src.Text) != "A=1\n" || src.Linked != (c.path != "/etc/app-rollout/shop.env") {
					t.Errorf("source is %+v", src)
				}
			}
		})
	}
}

// While a link is swapped to and fro, what is read is either an allowed file or
// refused, never a file of another.
func TestReadSourceRace(t *testing.T) {
	l := tree(t, map[string]string{
		"/etc/app-rollout/shop.env": "-> /srv/shop/.env",
		"/srv/shop/.env":            "A=good\n",
		"/srv/other/secret":         "A=" + dotenvtest.Canary + "\n",
	})
	if err := os.Chmod(l.Path("/srv/other"), 0o777); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		link, tmp := l.Env("shop"), l.Path("/etc/app-rollout/tmp")
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			target := "/srv/shop/.env"
			if i%2 == 0 {
				target = "/srv/other/secret"
			}
			os.Symlink(target, tmp)
			os.Rename(tmp, link)
		}
	}()
	for range 2000 {
		src, err := l.ReadSource("shop")
		if err == nil && string(src.Text) != "A=good\n" {
			t.Errorf("read %q", src.Text)
			break
		}
		if errors.Is(err, fs.ErrNotExist) {
			t.Error("counts as missing")
			break
		}
	}
	close(stop)
	<-done
}

// While a file is replaced, as an editor or a deployment does it, it is read as it was or
// as it is.
func TestReadSourceReplaced(t *testing.T) {
	l := tree(t, map[string]string{"/etc/app-rollout/shop.env": "A=good\n"})
	stop := make(chan struct{})
	done := make(chan error)
	go func() {
		tmp := l.Path("/etc/app-rollout/tmp")
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if err := errors.Join(os.WriteFile(tmp, []byte("A=good\n"), 0o644), os.Rename(tmp, l.Env("shop"))); err != nil {
				done <- err
				return
			}
		}
	}()
	for range 5000 {
		if src, err := l.ReadSource("shop"); err != nil || string(src.Text) != "A=good\n" {
			t.Errorf("%+v, %v", src, err)
			break
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// The directories that alice names are reached with the same care as her .env.
func TestPlacesOfOthers(t *testing.T) {
	needRoot(t)
	l := accountsTree(t, map[string]string{
		"/srv/shop/.env":      "",
		"/srv/shop/bobs/x":    "",
		"/srv/shop/open/x":    "",
		"/srv/shop/data/x":    "",
		"/srv/shop/bobs-link": "-> data",
		"/usr/bin/app":        "#!",
	})
	for path, uid := range map[string]int{"": alice, ".env": alice, "bobs": bob, "open": alice, "data": alice, "bobs-link": bob} {
		if err := os.Lchown(l.Path("/srv/shop/"+path), uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(l.Path("/srv/shop/open"), 0o777); err != nil {
		t.Fatal(err)
	}
	for value, want := range map[string]string{
		"/srv/shop/data":      "",
		"/srv/shop/bobs":      "cannot be used: /srv/shop/bobs belongs to bob, not to root or alice, the owner of the .env; chown -h alice /srv/shop/bobs",
		"/srv/shop/bobs-link": "cannot be used: /srv/shop/bobs-link belongs to bob, not to root or alice, the owner of the .env; chown -h alice /srv/shop/bobs-link",
		"/srv/shop/open":      "cannot be used: /srv/shop/open can be written by everybody; chmod o-w /srv/shop/open",
	} {
		for _, name := range []string{"SYSTEMD_WORKING_DIRECTORY", "SYSTEMD_READ_WRITE_PATHS"} {
			for _, l := range cachedAndNot(t, l) {
				_, err := ask(l, alice, run+name+"="+value+"\n")
				got := strings.Join(lines(err), "\n")
				if want == "" && got != "" || want != "" && got != "/srv/shop/.env:2: "+name+" "+want {
					t.Errorf("%s=%s:\n%s", name, value, got)
				}
			}
		}
	}
}

// A FUSE file system that nobody serves, and an automount that nobody answers:
// whoever looks into them waits for ever. We do not.
func TestHangingMounts(t *testing.T) {
	needRoot(t)
	for _, c := range []struct {
		fs    string
		mount func(dir string) (release func(), err error)
	}{
		{"fuse", func(dir string) (func(), error) {
			fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
			if err != nil {
				return nil, err
			}
			// Closing it ends the file system, and whoever waits in it.
			return func() { unix.Close(fd) },
				unix.Mount("none", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd))
		}},
		{"autofs", func(dir string) (func(), error) {
			var pipe [2]int
			if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
				return nil, err
			}
			return func() { unix.Close(pipe[0]); unix.Close(pipe[1]) },
				unix.Mount("none", dir, "autofs", 0, fmt.Sprintf("fd=%d,pgrp=1,minproto=5,maxproto=5,direct", pipe[1]))
		}},
	} {
		t.Run(c.fs, func(t *testing.T) {
			l := tree(t, map[string]string{"/etc/app-rollout/shop.env": "-> /srv/data/app/.env", "/srv/data/.keep": "", "/usr/bin/app": "#!"})
			release, err := c.mount(l.Path("/srv/data"))
			if err != nil {
				t.Skip("left out: cannot mount it here: ", err)
			}
			defer func() {
				release()
				if err := unix.Unmount(l.Path("/srv/data"), unix.MNT_DETACH); err != nil {
					t.Error(err)
				}
			}()
			done := make(chan string, 2)
			go func() {
				_, err := l.ReadSource("shop")
				done <- strings.Join(lines(err), "\n")
				_, err = ask(l, 0, run+"SYSTEMD_WORKING_DIRECTORY=/srv/data/app\n")
				done <- strings.Join(lines(err), "\n")
			}()
			for _, want := range []string{"/etc/app-rollout/shop.env: leads to ", "SYSTEMD_WORKING_DIRECTORY cannot be used: "} {
				select {
				case got := <-done:
					if !strings.Contains(got, want+"/srv/data, which lies on a file system of type "+c.fs) && !strings.Contains(got, want+"/srv/data lies on a file system of type "+c.fs) {
						t.Errorf("error is %s", got)
					}
				case <-time.After(2 * time.Second):
					t.Fatal("it waits")
				}
			}
		})
	}
}

// Whom an access control list lets write is not to be seen from the mode: the
// group's bits are the list's mask.
func TestAccessControlList(t *testing.T) {
	needRoot(t)
	l := accountsTree(t, map[string]string{"/etc/app-rollout/shop.env": "-> /srv/shop/.env", "/srv/shop/.env": ""})
	acl := func(mask byte) []byte { // version 2: tag, permissions, id (linux/posix_acl_xattr.h)
		return []byte{2, 0, 0, 0,
			1, 0, 7, 0, 255, 255, 255, 255,
			2, 0, 7, 0, bob & 255, bob >> 8, 0, 0,
			4, 0, 5, 0, 255, 255, 255, 255,
			16, 0, mask, 0, 255, 255, 255, 255,
			32, 0, 5, 0, 255, 255, 255, 255}
	}
	for _, path := range []string{"/srv/shop", "/srv/shop/.env"} {
		for mask, want := range map[byte]string{
			7: "refused",
			5: "",
		} {
			err := unix.Setxattr(l.Path(path), "system.posix_acl_access", acl(mask), 0)
			if errors.Is(err, unix.EOPNOTSUPP) {
				t.Skip("left out: no access control lists on this file system")
			}
			if err != nil {
				t.Fatal(err)
			}
			if want != "" {
				want = path + ": has an access control list by which others may write; setfacl -b " + path
			}
			_, err = l.ReadSource("shop")
			if got := strings.Join(lines(err), "\n"); got != want {
				t.Errorf("%s, mask %d: %q, want %q", path, mask, got, want)
			}
		}
		if err := unix.Removexattr(l.Path(path), "system.posix_acl_access"); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(l.Path(path), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// An owner who holds a lease on the file keeps others waiting who open it, up to
// 45 s (fcntl(2), F_SETLEASE). We do not wait.
func TestLease(t *testing.T) {
	l := tree(t, map[string]string{"/etc/app-rollout/shop.env": "A=1\n"})
	f, err := os.OpenFile(l.Env("shop"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGIO) // the kernel says so that somebody waits
	defer signal.Stop(signals)
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skip("left out: no leases here: ", err)
	}
	began := time.Now()
	_, err = l.ReadSource("shop")
	if err == nil || !strings.HasSuffix(err.Error(), "; end the program that holds a lease on it") || time.Since(began) > 10*time.Second {
		t.Errorf("%v after %s", err, time.Since(began))
	}
}
