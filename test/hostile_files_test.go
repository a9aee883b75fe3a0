//go:build story

package test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"app-rollout/test/machine"
)

// bomb grows to a gigabyte when its variables are expanded.
func bomb() string {
	text := "SYSTEMD_EXEC_START=/bin/true\nA0=xxxxxxxxxx\n"
	for i := range 8 {
		text += fmt.Sprintf("A%d=%s\n", i+1, strings.Repeat(fmt.Sprintf("$A%d-", i), 10))
	}
	return text
}

// hostileFiles are .env files that cannot be an app's. Each has a text, or a command
// makes it in /etc/app-rollout. The generator says a line about each. A new attack
// of this kind is a line here.
var hostileFiles = []struct{ name, text, command string }{
	{name: "bomb", text: bomb()},
	{name: "quadratic", text: strings.Repeat("export_1=x\n", 5900)},
	{name: "words", text: "SYSTEMD_EXEC_START='/bin/true" + strings.Repeat(" /proc/x", 6000) + "'\nSYSTEMD_READ_WRITE_PATHS='" + strings.Repeat("/tmp ", 1000) + "'\n"},
	{name: "fifo", command: "mkfifo h-fifo.env"},
	{name: "directory", command: "mkdir h-directory.env"},
	{name: "device", command: "mknod h-device.env c 1 5"},
	{name: "zero", command: "ln -s /dev/zero h-zero.env"},
	{name: "loop", command: "ln -s h-loop.env h-loop.env"},
	{name: "socket", command: `python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("h-socket.env")'`},
	{name: "sparse", command: "truncate -s 1G h-sparse.env"},
	{name: "comments", command: "yes '#' | head -c 20000000 >h-comments.env"},
	{name: "fuse", command: "ln -s /mnt/fuse/.env h-fuse.env"},
	{name: "auto", command: "ln -s /mnt/auto/.env h-auto.env"},
	{name: "grows", command: "touch h-grows.env; systemd-run --quiet --unit=grow sh -c 'while :; do echo A=1; done >>/etc/app-rollout/h-grows.env'"},
}

const generate = "/usr/lib/systemd/system-generators/app-rollout-generator"

// TestHostileFiles: whatever lies in /etc/app-rollout, the generator ends in time, a
// daemon-reload takes hardly longer, and the units of every other app are the same,
// byte for byte.
func TestHostileFiles(t *testing.T) {
	onEachRelease(t, func(t *testing.T, on machine.Options) {
		shop := newShop(t, on)
		for _, app := range []string{"aa", "shop", "zz"} {
			shop.Write("/etc/app-rollout/"+app+".env", "SYSTEMD_EXEC_START='/usr/bin/sleep infinity'\nSYSTEMD_CLUSTER_MODE=1\nSYSTEMD_CLUSTER_WATCH_SEC=0\n", 0o644)
		}
		shop.rollOut() // recorded; the other two are fresh
		snapshot := func() string {
			return shop.Sh("cd /run/systemd/generator; find . '(' -name 'aa*' -o -name 'shop*' -o -name 'zz*' ')' -print | sort; find aa* shop* zz* -type f | sort | xargs sha256sum")
		}
		shop.Must("systemctl", "daemon-reload")
		want := snapshot()
		if !strings.Contains(want, "aa@.service") || !strings.Contains(want, "shop@.service") || !strings.Contains(want, "zz@.service") {
			t.Fatalf("not all are emitted:\n%s", want)
		}
		reload := func() time.Duration {
			r := shop.Run(context.Background(), "systemctl", "daemon-reload")
			if r.Code != 0 {
				t.Errorf("daemon-reload: %s", r.Err)
			}
			return r.Took
		}
		usual := reload()

		hangs := litterDirectory(shop)
		if took := reload(); took > usual+5*time.Second {
			t.Errorf("a daemon-reload took %v, usually %v", took, usual)
		} else {
			t.Logf("daemon-reload: %v, usually %v; %s file systems that hang", took, usual, hangs)
		}
		if got := snapshot(); got != want {
			t.Errorf("other apps' units changed:\n%s\nwas\n%s", got, want)
		}
		shop.Sh("mkdir /tmp/by-hand /tmp/crowd")
		said := shop.Run(context.Background(), generate, "/tmp/by-hand")
		if said.Code != 1 {
			t.Errorf("by hand: status %d", said.Code)
		}
		for _, f := range hostileFiles {
			if !strings.Contains(said.Err, "h-"+f.name+": ") && !strings.Contains(said.Err, "/h-"+f.name+".env:") {
				t.Errorf("nothing is said of %s", f.name)
			}
		}
		shop.Sh("systemctl kill --signal=KILL hang.service grow.service; umount -l /mnt/fuse /mnt/auto 2>/dev/null || true; rm -rf /etc/app-rollout/h-*")

		// Of ten thousand files none gets a unit.
		shop.Sh(`cd /etc/app-rollout; python3 -c 'for i in range(10000): open("m%05d.env" % i, "w").write("X=1\n")'`)
		crowd := shop.Run(context.Background(), generate, "/tmp/crowd")
		if crowd.Code != 1 || crowd.Took > 10*time.Second || !strings.Contains(crowd.Err, "more than 4096 apps") {
			t.Errorf("10,000 files: status %d after %v: …%s", crowd.Code, crowd.Took, crowd.Err[max(0, len(crowd.Err)-500):])
		}
		t.Logf("10,000 files: %v", crowd.Took)
		shop.Sh("rm -r /etc/app-rollout/m*.env /tmp/crowd")
		shop.Must("systemctl", "daemon-reload")
		if got := snapshot(); got != want {
			t.Errorf("afterwards:\n%s\nwas\n%s", got, want)
		}
	})
}

// litterDirectory makes the hostile files and the file systems that some of them lead
// to. It returns how many of these file systems hang.
func litterDirectory(a *app) (hangs string) {
	a.t.Helper()
	a.Sh("mkdir -p /mnt/fuse /mnt/auto")
	for _, f := range hostileFiles {
		if f.command != "" {
			a.Sh("cd /etc/app-rollout; " + f.command)
		} else {
			a.Write("/etc/app-rollout/h-"+f.name+".env", f.text, 0o644)
		}
	}
	a.Write("/root/hang.py", hang, 0o644)
	a.Sh("[ -e /dev/fuse ] || mknod /dev/fuse c 10 229; systemd-run --quiet --unit=hang python3 /root/hang.py")
	a.Wait("the file systems that hang", 20*time.Second, func() bool {
		return a.Exists("/run/hangs") || a.Property("hang.service", "ActiveState") == "failed"
	})
	return a.Sh("grep -c '^none /mnt/' /proc/mounts || true")
}

// hang is a program that mounts a FUSE file system which nobody serves and an
// automount which nobody answers, and waits.
const hang = `
import ctypes, os, time
libc = ctypes.CDLL(None, use_errno=True)
def mount(dir, type, options):
    if libc.mount(b"none", dir, type, 0, options) != 0:
        print(dir, os.strerror(ctypes.get_errno()), flush=True)
try:
    fd = os.open("/dev/fuse", os.O_RDWR)
    mount(b"/mnt/fuse", b"fuse", b"fd=%d,rootmode=40000,user_id=0,group_id=0" % fd)
except OSError as e:
    print(e, flush=True)
r, w = os.pipe()
mount(b"/mnt/auto", b"autofs", b"fd=%d,pgrp=1,minproto=5,maxproto=5,direct" % w)
open("/run/hangs", "w").close()
time.sleep(600)
`
