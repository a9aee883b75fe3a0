package units

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// oddEnv is the .env that is odd.
const oddEnv = "/etc/app-rollout/shop.env"

// oddFiles are .env files that are none, or lie at the end of odd ways.
var oddFiles = []struct {
	name    string
	files   map[string]string
	make    func(path string) error
	err     string
	missing bool
}{
	{name: "gone", err: "open /etc/app-rollout/shop.env: file does not exist", missing: true},
	{name: "dangling", files: map[string]string{oddEnv: "-> /srv/gone/.env"},
		err: oddEnv + ": leads to /srv, which is not there; create it or correct the path"},
	{name: "a dangling link in /etc/app-rollout", files: map[string]string{oddEnv: "-> other.env"},
		err: oddEnv + ": leads to /etc/app-rollout/other.env, which is not there; create it or correct the path"},
	{name: "a loop", files: map[string]string{oddEnv: "-> shop.env"},
		err: oddEnv + ": leads through more than 40 links; point it to the real place"},
	{name: "a directory", make: func(p string) error { return os.Mkdir(p, 0o755) },
		err: oddEnv + ": is a directory; make it a regular file"},
	{name: "a FIFO", make: func(p string) error { return unix.Mkfifo(p, 0o644) },
		err: oddEnv + ": is a FIFO; make it a regular file"},
	{name: "a device", make: makeNull, err: oddEnv + ": is a device; make it a regular file"},
	{name: "a socket", make: func(p string) error {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: p, Net: "unix"})
		if err == nil {
			l.SetUnlinkOnClose(false)
			err = l.Close()
		}
		return err
	}, err: oddEnv + ": is a socket; make it a regular file"},
	{name: "sparse", make: func(p string) error {
		return errors.Join(os.WriteFile(p, nil, 0o644), os.Truncate(p, 1<<30))
	}, err: oddEnv + ": is larger than 64 KiB; keep large values in files of their own"},
	{name: "hard links", make: func(p string) error {
		return errors.Join(os.WriteFile(p, nil, 0o644), os.Link(p, p+".bak"))
	}, err: oddEnv + ": has 2 hard links; make it a file of its own: cp " + oddEnv + " " + oddEnv + ".new && mv " + oddEnv + ".new " + oddEnv},
	{name: "out of the root and back", files: map[string]string{oddEnv: "-> ../../../../../../etc/app-rollout/real", "/etc/app-rollout/real": ""}},
	{name: "round and round", files: map[string]string{oddEnv: "-> " + strings.Repeat("../app-rollout/", 200) + "l1",
		"/etc/app-rollout/l1": "-> " + strings.Repeat("../app-rollout/", 200) + "l2", "/etc/app-rollout/l2": "-> " + strings.Repeat("../app-rollout/", 200) + "l3"},
		err: oddEnv + ": leads to /etc, which is reached by too long a way; point the links to the real place"},
	{name: "a file as a directory", files: map[string]string{oddEnv: "-> /srv/file/.env", "/srv/file": ""},
		err: oddEnv + ": leads to /srv/file, which is not a directory; correct the path"},
	{name: "a long way down", files: map[string]string{oddEnv: "-> /srv" + strings.Repeat("/a", 128) + "/.env", "/srv" + strings.Repeat("/a", 128) + "/.env": ""},
		err: oddEnv + ": leads to /srv" + strings.Repeat("/a", 128) + ", which lies below more than 128 directories; move it up"},
	{name: "a long name", files: map[string]string{oddEnv: "-> " + strings.Repeat("x", 300)},
		err: oddEnv + ": leads to /etc/app-rollout/" + strings.Repeat("x", 300) + ", which has too long a name; correct the path"},
	{name: "a name with a line break", files: map[string]string{oddEnv: "-> /srv/a\nb/.env"},
		err: oddEnv + ": leads to /srv, which is not there; create it or correct the path"},
}

// What is no readable file is refused at once, and only a missing one counts
// as missing: an app whose .env is gone is stopped.
func TestReadSourceOddFiles(t *testing.T) {
	for _, c := range oddFiles {
		t.Run(c.name, func(t *testing.T) {
			files := map[string]string{"/etc/app-rollout/.keep": ""}
			for k, v := range c.files {
				files[k] = v
			}
			l := tree(t, files)
			if c.make != nil {
				if err := c.make(l.Path(oddEnv)); err != nil {
					t.Skip(err) // a socket's path may be too long here, and only root can make a device
				}
			}
			for _, l := range cachedAndNot(t, l) {
				began := time.Now()
				_, err := l.ReadSource("shop")
				if took := time.Since(began); took > time.Second {
					t.Errorf("took %s", took)
				}
				if got := strings.Join(lines(err), "\n"); got != c.err {
					t.Errorf("error is\n%s\nwant\n%s", got, c.err)
				}
				if errors.Is(err, fs.ErrNotExist) != c.missing {
					t.Errorf("counts as missing: %t", !c.missing)
				}
			}
		})
	}
	// Without the directory nothing is known of any app.
	if _, err := (Layout{Root: t.TempDir()}).ReadSource("shop"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error is %v", err)
	}
}

// A device is refused before it is opened: opening a watchdog arms it. Nor is
// a file system entered that may hang, or whose files are not what they seem.
func TestWalkOddMounts(t *testing.T) {
	for _, path := range []string{"/proc/self/environ", "/proc/kmsg", "/sys/kernel/uevent_seqnum"} {
		if _, err := (Layout{}).tree().Walk(path); err == nil || !strings.Contains(err.Error(), "may keep the boot waiting") {
			t.Errorf("%s: %v", path, err)
		}
	}
	// A machine's /dev is a devtmpfs, which is not entered; a container's is not.
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	why := "is a device"
	if strings.Contains(string(mounts), " /dev devtmpfs ") {
		why = "lies on a file system of type devtmpfs, which may keep the boot waiting"
	}
	if _, err := (Layout{}).ReadFile("shop", "/dev/zero"); err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("/dev/zero: %v, want that it %s", err, why)
	}
}

// makeNull makes a device that does no harm.
func makeNull(path string) error {
	return errors.Join(unix.Mknod(path, unix.S_IFCHR|0o644, int(unix.Mkdev(1, 3))), os.Chmod(path, 0o644))
}

// What is no regular file is not even opened: an open arms a watchdog and wakes
// whoever waits at the other end of a FIFO. A look with O_PATH is no open, and
// raises no event (inotify(7)).
func TestLooksOnly(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(path string) error
	}{
		{"a FIFO", func(path string) error { return unix.Mkfifo(path, 0o644) }},
		{"a device", makeNull},
		{"a directory", func(path string) error { return os.Mkdir(path, 0o755) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := tree(t, map[string]string{"/etc/app-rollout/.keep": ""})
			if err := c.make(l.Env("shop")); err != nil {
				t.Skip("left out:", err)
			}
			watch, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(watch)
			if _, err := unix.InotifyAddWatch(watch, l.Env("shop"), unix.IN_OPEN); err != nil {
				t.Fatal(err)
			}
			opened := func() bool {
				_, err := unix.Read(watch, make([]byte, 4096))
				return !errors.Is(err, unix.EAGAIN)
			}
			if _, err := l.ReadSource("shop"); err == nil || opened() {
				t.Errorf("it was opened, or not refused: %v", err)
			}
			fd, err := unix.Open(l.Env("shop"), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Skip("left out: it cannot be opened here:", err)
			}
			unix.Close(fd)
			if !opened() {
				t.Error("an open is not seen: nothing is tested")
			}
		})
	}
}
