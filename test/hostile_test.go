//go:build story

package test

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	"app-rollout/test/machine"
)

// probe is mallory's app. It tries what it may not do, writes down its rights, and
// waits.
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

// pwn must never run: no text in the .env may start it.
const pwn = "#!/bin/sh\ntouch /owned-by-$(id -u) /srv/mallory/pwned-by-$(id -u)\n"

// town is a machine with two users: bob, whose app must not notice anything,
// and mallory, whose .env says all it can.
type town struct {
	*app        // mallory's
	bobs string // the state of bob's app
}

const mallorys = "SYSTEMD_EXEC_START=./probe\nSYSTEMD_CLUSTER_WATCH_SEC=0\n"

func newTown(t *testing.T, on machine.Options) *town {
	m := newShop(t, on)
	m.Write("/srv/mallory/probe", probe, 0o755)
	m.Write("/srv/mallory/pwn", pwn, 0o755)
	m.Write("/srv/mallory/.env", mallorys, 0o600)
	m.Write("/srv/bob/.env", env("BOBS=hunter2"), 0o600)
	m.Sh(`useradd --create-home mallory; useradd bob; mkdir -p /srv/mallory/data /srv/mallory-too
		chown -R mallory:mallory /srv/mallory /srv/mallory-too; chown -R bob:bob /srv/bob; chmod 700 /srv/bob
		ln -s /srv/mallory/.env /etc/app-rollout/mallory.env; ln -s /srv/bob/.env /etc/app-rollout/bob.env`)
	rollOut(m, "bob", "mallory")
	m.Must("systemctl", "daemon-reload") // which the attacks may bring about
	w := &town{app: m.other(t, "mallory")}
	w.bobs = w.bob()
	return w
}

// bob is the whole state of bob's app.
func (w *town) bob() string {
	return w.Sh(`systemctl show --property=Id,MainPID,NRestarts,User,ExecStart,FragmentPath bob@1.service bob@2.service | sed 's/\(pid\|start_time\)=[^;]*//g'
		cd /; find srv/bob var/lib/app-rollout/bob run/systemd/generator/bob* -type f | sort | xargs sha256sum`)
}

// attack writes mallory's .env and rolls it out, as the service does.
func (w *town) attack(text string) machine.Result {
	return w.RunInput(context.Background(), text, "sh", "-c", "cat >/srv/mallory/.env; exec "+swap+" mallory")
}

const swap = "/usr/lib/app-rollout/rollout-helper swap"

// refused checks that a run failed, and that exactly one line says why.
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

// stays checks that mallory's app still runs exactly as before.
func (w *town) stays(before string) {
	w.t.Helper()
	if now := w.runs(); now != before {
		w.t.Errorf("what ran was touched: %s, then %s", before, now)
	}
}

func (w *town) runs() string {
	return w.Must("systemctl", "show", "--property=MainPID,ExecMainStartTimestampMonotonic,ActiveState,NRestarts", "mallory.service")
}

// asMallory checks that mallory's app has mallory's rights, and no others.
func (w *town) asMallory(name string, mayBeDown bool) {
	w.t.Helper()
	uid := w.Must("id", "-u", "mallory")
	const each = `for pid in $(cat /sys/fs/cgroup$(systemctl show --value --property=ControlGroup mallory.service)/cgroup.procs); do
		`
	// A unit of type simple counts as started before systemd's own child has
	// become the program.
	w.Wait("the program", 10*time.Second, func() bool {
		return w.Sh(each+`readlink /proc/$pid/exe | grep /systemd/systemd || true; done 2>/dev/null`) == ""
	})
	status := w.Sh(each + `grep -E '^(Uid|Gid|Cap...|NoNewPrivs|Seccomp):' /proc/$pid/status 2>/dev/null || true; done 2>/dev/null`)
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
		if got := w.Property("mallory.service", property); got != want {
			w.t.Errorf("%s: %s=%s", name, property, got)
		}
	}
}

// unharmed checks that nothing was written, read or run that must not be.
func (w *town) unharmed(name string) {
	w.t.Helper()
	if made := w.Sh("ls -d /owned* /etc/owned /usr/owned /run/owned /root/owned /home/mallory/owned /srv/bob/owned /srv/mallory-too/owned /etc/app-rollout/owned.env /var/lib/app-rollout/owned /run/systemd/system/owned.service /srv/mallory/pwned* /srv/mallory/namespace 2>/dev/null || true"); made != "" {
		w.t.Errorf("%s: made %s", name, made)
	}
	if stolen := w.Sh("cat /srv/mallory/stolen"); stolen != "" {
		w.t.Errorf("%s: read of bob's: %s", name, stolen)
	}
	if now := w.bob(); now != w.bobs {
		w.t.Errorf("%s: bob's app was touched:\n%s\nthen\n%s", name, w.bobs, now)
	}
}
