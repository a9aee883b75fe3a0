//go:build story

package test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"app-rollout/test/load"
	"app-rollout/test/machine"
	"app-rollout/units"
)

// probe is mallory's app: it tries what it may not, says what it is, and waits.
const probe = `#!/bin/sh
for p in /owned /etc/owned /usr/owned /run/owned /root/owned /home/mallory/owned /srv/bob/owned /srv/mallory-too/owned \
	/etc/app-rollout/owned.env /var/lib/app-rollout/owned /run/systemd/system/owned.service; do
	echo x >$p
done 2>/dev/null
cat /srv/bob/.env /var/lib/app-rollout/*/current/environment /run/systemd/generator/*/environment /proc/[0-9]*/environ 2>/dev/null |
	grep -a BOBS >/srv/mallory/stolen
unshare -r true 2>/dev/null && touch /srv/mallory/namespace
id >/srv/mallory/facts
exec sleep infinity
`

// pwn must never run: no text may make it another command.
const pwn = "#!/bin/sh\ntouch /owned-by-$(id -u) /srv/mallory/pwned-by-$(id -u)\n"

// town is a machine with two users: bob, whose app must not notice anything,
// and mallory, whose .env says all it can.
type town struct {
	t    *testing.T
	m    *machine.Machine
	bobs string // the state of bob's app
}

const mallorys = "SYSTEMD_EXEC_START=./probe\nSYSTEMD_CLUSTER_WATCH_SEC=0\n"

func newTown(t *testing.T, release string) *town {
	m := machine.Boot(t, machine.Options{Release: release, Install: true, Layers: []string{machine.Apps(t)}})
	m.Write("/srv/mallory/probe", probe, 0o755)
	m.Write("/srv/mallory/pwn", pwn, 0o755)
	m.Write("/srv/mallory/.env", mallorys, 0o600)
	m.Write("/srv/bob/.env", shop("BOBS=hunter2"), 0o600)
	m.Sh(`useradd --create-home mallory; useradd bob; mkdir -p /srv/mallory/data /srv/mallory-too
		chown -R mallory:mallory /srv/mallory /srv/mallory-too; chown -R bob:bob /srv/bob; chmod 700 /srv/bob
		ln -s /srv/mallory/.env /etc/app-rollout/mallory.env; ln -s /srv/bob/.env /etc/app-rollout/bob.env`)
	deploys(t, m, "bob", "mallory")
	m.Must("systemctl", "daemon-reload") // which the attacks may bring about
	w := &town{t: t, m: m}
	w.bobs = w.bob()
	return w
}

// bob is all that there is of bob's app.
func (w *town) bob() string {
	return w.m.Sh(`systemctl show --property=Id,MainPID,NRestarts,User,ExecStart,FragmentPath bob@1.service bob@2.service | sed 's/\(pid\|start_time\)=[^;]*//g'
		cd /; find srv/bob var/lib/app-rollout/bob run/systemd/generator/bob* -type f | sort | xargs sha256sum`)
}

// attack writes mallory's .env and rolls it out, as the service does.
func (w *town) attack(text string) machine.Result {
	return w.m.RunInput(context.Background(), text, "sh", "-c", "cat >/srv/mallory/.env; exec "+swap+" mallory")
}

const swap = "/usr/lib/app-rollout/rollout-helper swap"

// refused: one line says why.
func (w *town) refused(name string, r machine.Result, why string) {
	w.t.Helper()
	said := r.Out + "\n" + r.Err
	found := 0
	for _, line := range strings.Split(said, "\n") {
		if strings.Contains(line, why) {
			found++
		}
	}
	if r.Code != 1 || found != 1 {
		w.t.Errorf("%s: status %d, and %d lines say %q:\n%s", name, r.Code, found, why, said)
	}
}

// stays fails if what ran before does not run any more, just so.
func (w *town) stays(before string) {
	w.t.Helper()
	if now := w.running(); now != before {
		w.t.Errorf("what ran was touched: %s, then %s", before, now)
	}
}

func (w *town) running() string {
	return w.m.Must("systemctl", "show", "--property=MainPID,ExecMainStartTimestampMonotonic,ActiveState,NRestarts", "mallory.service")
}

// held fails unless mallory's app runs as mallory, and as no more.
func (w *town) held(name string, mayBeDown bool) {
	w.t.Helper()
	uid := w.m.Must("id", "-u", "mallory")
	const each = `for pid in $(cat /sys/fs/cgroup$(systemctl show --value --property=ControlGroup mallory.service)/cgroup.procs); do
		`
	// A unit of type simple counts as started before systemd's own child has
	// become the program.
	w.m.Wait("the program", 10*time.Second, func() bool {
		return w.m.Sh(each+`readlink /proc/$pid/exe | grep /systemd/systemd || true; done 2>/dev/null`) == ""
	})
	status := w.m.Sh(each + `grep -E '^(Uid|Gid|Cap...|NoNewPrivs|Seccomp):' /proc/$pid/status 2>/dev/null || true; done 2>/dev/null`)
	for field, want := range map[string]string{
		"Uid": strings.Repeat("\t"+uid, 4), "Gid": strings.Repeat("\t"+uid, 4), "NoNewPrivs": "\t1", "Seccomp": "\t2",
		"CapInh": "\t0000000000000000", "CapPrm": "\t0000000000000000", "CapEff": "\t0000000000000000", "CapBnd": "\t0000000000000000", "CapAmb": "\t0000000000000000",
	} {
		lines := regexp.MustCompile(`(?m)^`+field+`:.*`).FindAllString(status, -1)
		if len(lines) == 0 && !mayBeDown {
			w.t.Errorf("%s: nothing runs", name)
			return
		}
		for _, line := range lines {
			if line != field+":"+want {
				w.t.Errorf("%s: runs with %s", name, line)
			}
		}
	}
	for property, want := range map[string]string{"User": "mallory", "ExecStartPre": "", "ExecStartPost": "", "ExecStop": "", "ExecStopPost": "", "ExecReload": "", "DropInPaths": "", "Group": "", "BindPaths": ""} {
		if got := w.m.Property("mallory.service", property); got != want {
			w.t.Errorf("%s: %s=%s", name, property, got)
		}
	}
}

// unharmed fails if anything was written, read or run that must not be.
func (w *town) unharmed(name string) {
	w.t.Helper()
	if made := w.m.Sh("ls -d /owned* /etc/owned /usr/owned /run/owned /root/owned /home/mallory/owned /srv/bob/owned /srv/mallory-too/owned /etc/app-rollout/owned.env /var/lib/app-rollout/owned /run/systemd/system/owned.service /srv/mallory/pwned* /srv/mallory/namespace 2>/dev/null || true"); made != "" {
		w.t.Errorf("%s: made %s", name, made)
	}
	if stolen := w.m.Sh("cat /srv/mallory/stolen"); stolen != "" {
		w.t.Errorf("%s: read of bob's: %s", name, stolen)
	}
	if now := w.bob(); now != w.bobs {
		w.t.Errorf("%s: bob's app was touched:\n%s\nthen\n%s", name, w.bobs, now)
	}
}

// TestHostileEnv: no text in an .env of a user's own gives its app another
// user's rights, a capability, or a way out of the sandbox or into another app.
func TestHostileEnv(t *testing.T) {
	for _, release := range []string{"bookworm", "trixie"} {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			w := newTown(t, release)
			w.held("the beginning", false)
			w.unharmed("the beginning")
			w.m.Sh(`ln -s /etc /srv/mallory/etc; ln -s /srv/bob /srv/mallory/bobs; ln -s probe /srv/mallory/link; ln -s data /srv/mallory/current`)

			// All settings that are root's alone, at once.
			roots := mallorys
			for _, s := range units.Settings() {
				if s.Root {
					roots += s.Name + "=x\n"
				}
			}
			before := w.running()
			r := w.attack(roots)
			for _, s := range units.Settings() {
				if s.Root && !strings.Contains(r.Out+r.Err, s.Name+" can only be set in an .env that belongs to root") {
					t.Errorf("%s is not refused:\n%s%s", s.Name, r.Out, r.Err)
				}
			}
			for _, c := range []struct{ line, why string }{
				{"SYSTEMD_USER=root", "SYSTEMD_USER must be the owner of the .env"},
				{"SYSTEMD_USER=0", "SYSTEMD_USER must be the owner of the .env"},
				{`SYSTEMD_USER="mallory\nUser=root"`, "SYSTEMD_USER must not hold control characters"},
				{"PORT=80", "PORT must be 1024 or more"},
				{"SYSTEMD_EXEC_START=+/srv/mallory/pwn", "special prefixes"},
				{"SYSTEMD_EXEC_START='!/srv/mallory/pwn'", "special prefixes"},
				{"SYSTEMD_EXEC_START='!!/srv/mallory/pwn'", "special prefixes"},
				{"SYSTEMD_EXEC_START=@/srv/mallory/pwn", "special prefixes"},
				{"SYSTEMD_EXEC_START=:/srv/mallory/pwn", "special prefixes"},
				{"SYSTEMD_EXEC_START=-/srv/mallory/pwn", "special prefixes"},
				{`SYSTEMD_EXEC_START='"+/srv/mallory/pwn"'`, "special prefixes"},
				{"SYSTEMD_EXEC_START='./probe\nExecStartPre=+/srv/mallory/pwn'", "control characters"},
				{`SYSTEMD_EXEC_START="./probe\nExecStartPre=+/srv/mallory/pwn"`, "control characters"},
				{`SYSTEMD_EXEC_START=./probe \`, "must not end in a backslash"},
				{"SYSTEMD_EXEC_START=pwn", "absolute path"},
				{"SYSTEMD_EXEC_START_PRE=/srv/mallory/pwn", "SYSTEMD_EXEC_START_PRE is no setting"},
				{"SYSTEMD_DYNAMIC_USER=no", "SYSTEMD_DYNAMIC_USER is no setting"},
				{`SYSTEMD_DESCRIPTION="x\n[Service]\nUser=root"`, "SYSTEMD_DESCRIPTION must not hold control characters"},
				{`SYSTEMD_DESCRIPTION=x\`, "SYSTEMD_DESCRIPTION must be at most"},
				{"NOTIFY_SOCKET=/run/systemd/notify", "NOTIFY_SOCKET is set by systemd"},
				{"LISTEN_FDS=3", "LISTEN_FDS is set by systemd"},
				{"SYSTEMD_READ_WRITE_PATHS=/etc", "must lie inside /srv/mallory"},
				{"SYSTEMD_READ_WRITE_PATHS=/", "must lie inside /srv/mallory"},
				{"SYSTEMD_READ_WRITE_PATHS=./etc", "must lie inside /srv/mallory"},
				{"SYSTEMD_READ_WRITE_PATHS=./../mallory-too", "must lie inside /srv/mallory"},
				{"SYSTEMD_WORKING_DIRECTORY=/srv/bob", "must lie inside /srv/mallory"},
				{"SYSTEMD_WORKING_DIRECTORY=/srv/mallory/bobs", "must lie inside /srv/mallory"},
				{"SYSTEMD_WORKING_DIRECTORY=/srv/mallory/../bob", "must lie inside /srv/mallory"},
				{"SYSTEMD_WORKING_DIRECTORY=/proc/1/root", "may keep the boot waiting"},
				{"SYSTEMD_RESTART_SEC=100ms\nSYSTEMD_CLUSTER_MODE=1\nSYSTEMD_CLUSTER_NODES=256", "SYSTEMD_RESTART_SEC must be"},
			} {
				w.refused(c.line, w.attack(mallorys+c.line+"\n"), c.why)
			}
			w.stays(before)
			w.unharmed("what is refused")

			for _, lines := range []string{
				`SYSTEMD_EXEC_START='./probe ; /srv/mallory/pwn ";" + !! %n %% ${PATH} $HOME \; \\ "a b" "\\nExecStartPre=/srv/mallory/pwn" --path=/home/mallory'`,
				`SYSTEMD_EXEC_START='/srv/mallory/data/../link'` + "\n" + `SYSTEMD_DESCRIPTION='%n %i "x" [Service] User=root ; #'` + "\nSYSTEMD_TYPE=simple",
				`X="1\n[Service]\nUser=root\nExecStartPre=+/srv/mallory/pwn"` + "\n" + `Y=a\` + "\n" + `Z="\\ "` +
					"\nLD_PRELOAD=/srv/mallory/evil.so\nLD_LIBRARY_PATH=/srv/mallory\nPATH=/srv/mallory:/usr/bin:/bin\nUSER=root\nHOME=/root\nBASH_ENV=/srv/mallory/pwn\nENV=/srv/mallory/pwn",
				"SYSTEMD_USER=mallory\nSYSTEMD_WORKING_DIRECTORY=/srv/mallory/current\nSYSTEMD_EXEC_START=/srv/mallory/probe\nSYSTEMD_READ_WRITE_PATHS='/srv/mallory /srv/mallory/data'",
			} {
				if r := w.attack(mallorys + lines + "\n"); r.Code != 0 {
					t.Errorf("%s: status %d\n%s%s", lines, r.Code, r.Out, r.Err)
				}
				w.held(lines, false)
				w.unharmed(lines)
			}

			// What was checked changes between the check and a start.
			if r := w.attack(mallorys + "SYSTEMD_EXEC_START=/srv/mallory/probe\nSYSTEMD_WORKING_DIRECTORY=/srv/mallory/data\nSYSTEMD_READ_WRITE_PATHS='/srv/mallory /srv/mallory/data'\n"); r.Code != 0 {
				t.Errorf("status %d\n%s%s", r.Code, r.Out, r.Err)
			}
			w.m.Sh("rmdir /srv/mallory/data")
			for _, to := range []string{"/srv/mallory-too", "/home/mallory", "/etc"} {
				w.m.Sh("ln -sfn " + to + " /srv/mallory/data")
				w.m.Run(context.Background(), "systemctl", "restart", "mallory.service")
				w.held("a directory that became a link to "+to, true)
				w.unharmed("a directory that became a link to " + to)
			}
			w.m.Sh("ln -sfn /srv/bob /srv/mallory/data; systemctl restart mallory.service || true")
			if got := w.m.Sh("readlink /proc/$(systemctl show --value --property=MainPID mallory.service)/cwd 2>/dev/null || true"); got == "/srv/bob" {
				t.Error("mallory's app runs in bob's directory")
			}
			w.unharmed("a directory that became a link to bob's")
		})
	}
}

// TestHostileWay: whose file it is, and who can change the way to it, decides;
// what is refused leaves the running generation, and one line says so.
func TestHostileWay(t *testing.T) {
	w := newTown(t, "bookworm")
	before := w.running()
	for _, c := range []struct{ name, setup, why string }{
		{"a user's link to another app's frozen env", "ln -sfn /var/lib/app-rollout/bob/current/env .env; chown -h mallory .env", "/srv/mallory: belongs to mallory, not to root"},
		{"a user's link to another user's .env", "ln -sfn /srv/bob/.env .env; chown -h mallory .env", "/srv/mallory: belongs to mallory, not to root or bob"},
		{"a user's link to a root file", "ln -sfn /etc/shadow .env; chown -h mallory .env", "/srv/mallory: belongs to mallory, not to root"},
		{"a link to a watchdog", "[ -e /dev/watchdog ] || mknod /dev/watchdog c 1 5; ln -sfn /dev/watchdog .env; chown -h mallory .env", "is a device"},
		{"a link to /dev/zero", "ln -sfn /dev/zero .env; chown -h mallory .env", "is a device"},
		{"a link into /proc", "ln -sfn /proc/1/environ .env; chown -h mallory .env", "may keep the boot waiting"},
		{"another user's file in the directory", "rm .env; cp /srv/bob/.env .env; chown bob .env", "/srv/mallory: belongs to mallory, not to root or bob"},
		{"root's file in the directory", "chown root .env", "/srv/mallory: belongs to mallory, not to root"},
		{"another user's file, linked hard", "rm .env; ln /srv/bob/.env .env", "/srv/mallory: belongs to mallory, not to root or bob"},
		{"two names", "ln .env two", "has 2 hard links"},
		{"writable by all", "chmod 666 .env", "can be written by everybody; chmod o-w /srv/mallory/.env"},
		{"a directory writable by all", "chmod 1777 .", "can be written by everybody; chmod o-w /srv/mallory"},
		{"writable by a group of several", "chgrp users .env; chmod 660 .env", "can be written by a group"},
		{"a guest in the private group", "usermod --append --groups mallory bob; chmod 660 .env", "can be written by a group"},
		{"gone", "rm .env", "leads to /srv/mallory/.env, which is not there"},
		{"a FIFO", "rm .env; mkfifo .env; chown mallory .env", "is a FIFO"},
	} {
		w.m.Sh("cd /srv/mallory; cp -a . /var/tmp/kept; " + c.setup)
		w.refused(c.name, w.m.Run(context.Background(), "sh", "-c", swap+" mallory"), c.why)
		w.stays(before)
		w.m.Sh(`cd /srv/mallory; rm -rf .env two; cp -a /var/tmp/kept/.env .; rm -rf /var/tmp/kept; chmod 755 .
			gpasswd --delete bob mallory >/dev/null 2>&1 || true`)
	}
	// Who watches sees no difference after a daemon-reload either.
	w.m.Must("systemctl", "daemon-reload")
	w.stays(before)
	w.unharmed("all of it")

	t.Run("names", func(t *testing.T) {
		w.m.Sh("mkdir /tmp/names")
		for _, app := range []string{"root", "backup", "80"} {
			w.m.Write("/etc/app-rollout/"+app+".env", "SYSTEMD_EXEC_START='/usr/bin/sleep infinity'\nSYSTEMD_CLUSTER_WATCH_SEC=0\n", 0o644)
		}
		deploys(t, w.m, "root", "backup", "80")
		for _, app := range []string{"root", "backup", "80"} {
			uid := w.m.Sh("stat -c %u /proc/" + w.m.Property(app+".service", "MainPID"))
			if user := w.m.Property(app+".service", "User"); user != "ar-"+app || len(uid) != 5 { // 61184 to 65519: dynamic
				t.Errorf("%s runs as %s, %s", app, user, uid)
			}
		}
		for name, why := range map[string]string{
			"dbus": "is installed as", "getty": "is installed as", "systemd-journald": "is installed as", "user": "is installed as",
			"app-rollout": "this package's own", "app-rollout@shop": "this package's own", "A": "is no app", "a.b": "is no app",
			"a@1": "is no app", "-a": "is no app", `a\x2db`: "is no app", "%i": "is no app", "a b": "is no app", "é": "is no app", "$(id)": "is no app",
		} {
			w.m.Write("/etc/app-rollout/"+name+".env", "SYSTEMD_EXEC_START=/usr/bin/true\n", 0o644)
			r := w.m.Run(context.Background(), "/usr/lib/systemd/system-generators/app-rollout-generator", "/tmp/names")
			if r.Code != 1 || strings.Count(r.Err, why) != 1 {
				t.Errorf("%s.env: status %d: %s", name, r.Code, r.Err)
			}
			w.m.Must("rm", "/etc/app-rollout/"+name+".env")
		}
	})
}

// TestHostilePort: an app on another's port is refused by that one's name, and
// that one goes on.
func TestHostilePort(t *testing.T) {
	w := newTown(t, "bookworm")
	client := w.m.Load(load.Options{Addr: "127.0.0.1:8080", Workers: 4, Pause: 5 * time.Millisecond})
	// Another user cannot bind it; the same user could share it.
	for user, why := range map[string]string{
		"mallory": `second@\d+\.service exited with status 1`,
		"bob":     `bob@\d+\.service listens on 127\.0\.0\.1:8080 too; stop it or give one of them another port`,
	} {
		w.m.Write("/srv/second/.env", shop("GENERATION=stranger", "SYSTEMD_CLUSTER_READY_SEC=5"), 0o600)
		w.m.Sh("chown -R " + user + ":" + user + " /srv/second; ln -sfn /srv/second/.env /etc/app-rollout/second.env")
		r := run(w.m, "second")
		if r.Code != 1 || !regexp.MustCompile(why).MatchString(r.Err) {
			t.Errorf("as %s: status %d, and nothing says %s:\n%s%s", user, r.Code, why, r.Out, r.Err)
		}
		if left := instances(w.m, "second"); left != "" {
			t.Errorf("as %s: %s still run", user, left)
		}
	}
	if log := w.m.Sh("journalctl --sync; journalctl -b -o cat -u 'second@*'"); !strings.Contains(log, "address already in use") {
		t.Errorf("mallory's app ended for another reason:\n%s", log)
	}
	report := client.Stop()
	nothingLost(t, report)
	strays := 0
	for label, n := range report.Labels {
		if strings.HasPrefix(label, "stranger") {
			strays += n
		}
	}
	t.Logf("%d of %d requests were answered by an app of the same user before it was stopped", strays, report.Answered())
	w.unharmed("the same port")
}

// TestHostileFiles: whatever lies in the directory, the generator ends in time,
// a daemon-reload is hardly longer, and every other app's units are the same,
// byte for byte.
func TestHostileFiles(t *testing.T) {
	for _, release := range []string{"bookworm", "trixie"} {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			m := machine.Boot(t, machine.Options{Release: release, Install: true})
			for _, app := range []string{"aa", "shop", "zz"} {
				m.Write("/etc/app-rollout/"+app+".env", "SYSTEMD_EXEC_START='/usr/bin/sleep infinity'\nSYSTEMD_CLUSTER_MODE=1\nSYSTEMD_CLUSTER_WATCH_SEC=0\n", 0o644)
			}
			deploys(t, m, "shop") // recorded; the other two are fresh
			snapshot := func() string {
				return m.Sh("cd /run/systemd/generator; find . '(' -name 'aa*' -o -name 'shop*' -o -name 'zz*' ')' -print | sort; find aa* shop* zz* -type f | sort | xargs sha256sum")
			}
			m.Must("systemctl", "daemon-reload")
			want := snapshot()
			if !strings.Contains(want, "aa@.service") || !strings.Contains(want, "shop@.service") || !strings.Contains(want, "zz@.service") {
				t.Fatalf("not all are emitted:\n%s", want)
			}
			reload := func() time.Duration {
				r := m.Run(context.Background(), "systemctl", "daemon-reload")
				if r.Code != 0 {
					t.Errorf("daemon-reload: %s", r.Err)
				}
				return r.Took
			}
			usual := reload()

			bomb := "SYSTEMD_EXEC_START=/bin/true\nA0=xxxxxxxxxx\n"
			for i := range 8 {
				bomb += fmt.Sprintf("A%d=%s\n", i+1, strings.Repeat(fmt.Sprintf("$A%d-", i), 10))
			}
			m.Write("/etc/app-rollout/h-bomb.env", bomb, 0o644)
			m.Write("/etc/app-rollout/h-quadratic.env", strings.Repeat("export_1=x\n", 5900), 0o644)
			m.Write("/etc/app-rollout/h-words.env", "SYSTEMD_EXEC_START='/bin/true"+strings.Repeat(" /proc/x", 6000)+"'\nSYSTEMD_READ_WRITE_PATHS='"+strings.Repeat("/tmp ", 1000)+"'\n", 0o644)
			m.Sh(`cd /etc/app-rollout
				mkfifo h-fifo.env; mkdir h-directory.env; mknod h-device.env c 1 5; ln -s /dev/zero h-zero.env; ln -s h-loop.env h-loop.env
				python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("h-socket.env")'
				truncate -s 1G h-sparse.env; yes '#' | head -c 20000000 >h-comments.env
				ln -s /mnt/fuse/.env h-fuse.env; ln -s /mnt/auto/.env h-auto.env; mkdir -p /mnt/fuse /mnt/auto
				touch h-grows.env; systemd-run --quiet --unit=grow sh -c 'while :; do echo A=1; done >>/etc/app-rollout/h-grows.env'`)
			m.Write("/root/hang.py", hang, 0o644)
			m.Sh("[ -e /dev/fuse ] || mknod /dev/fuse c 10 229; systemd-run --quiet --unit=hang python3 /root/hang.py")
			m.Wait("the file systems that hang", 10*time.Second, func() bool {
				return m.Property("hang.service", "StatusText") != "" || m.Exists("/run/hangs") || m.Property("hang.service", "ActiveState") == "failed"
			})
			hangs := m.Sh("grep -c '^none /mnt/' /proc/mounts || true")

			if took := reload(); took > usual+5*time.Second {
				t.Errorf("a daemon-reload took %v, usually %v", took, usual)
			} else {
				t.Logf("daemon-reload: %v, usually %v; %s file systems that hang", took, usual, hangs)
			}
			if got := snapshot(); got != want {
				t.Errorf("other apps' units changed:\n%s\nwas\n%s", got, want)
			}
			m.Sh("mkdir /tmp/by-hand /tmp/crowd")
			said := m.Run(context.Background(), "/usr/lib/systemd/system-generators/app-rollout-generator", "/tmp/by-hand")
			if said.Code != 1 {
				t.Errorf("by hand: status %d", said.Code)
			}
			for _, name := range strings.Fields("bomb quadratic words fifo directory device zero loop socket sparse comments fuse auto grows") {
				if !strings.Contains(said.Err, "h-"+name+": ") && !strings.Contains(said.Err, "/h-"+name+".env:") {
					t.Errorf("nothing is said of %s", name)
				}
			}
			m.Sh("systemctl kill --signal=KILL hang.service grow.service; umount -l /mnt/fuse /mnt/auto 2>/dev/null || true; rm -rf /etc/app-rollout/h-*")

			// Ten thousand files, and no unit of any.
			m.Sh(`cd /etc/app-rollout; python3 -c 'for i in range(10000): open("m%05d.env" % i, "w").write("X=1\n")'`)
			crowd := m.Run(context.Background(), "/usr/lib/systemd/system-generators/app-rollout-generator", "/tmp/crowd")
			if crowd.Code != 1 || crowd.Took > 10*time.Second || !strings.Contains(crowd.Err, "more than 4096 apps") {
				t.Errorf("10,000 files: status %d after %v: …%s", crowd.Code, crowd.Took, crowd.Err[max(0, len(crowd.Err)-500):])
			}
			t.Logf("10,000 files: %v", crowd.Took)
			m.Sh("rm -r /etc/app-rollout/m*.env /tmp/crowd")
			m.Must("systemctl", "daemon-reload")
			if got := snapshot(); got != want {
				t.Errorf("afterwards:\n%s\nwas\n%s", got, want)
			}
		})
	}
}

// hang mounts a FUSE file system that nobody serves and an automount that
// nobody answers, and waits.
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
