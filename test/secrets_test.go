//go:build story

package test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"app-rollout/test/machine"
)

// hush is in every secret of an .env.
const hush = "hush-5ecret"

// secrets is a machine with two apps that have secrets: root's and alice's.
type secrets struct{ *app }

const secretLines = "PASSWORD=" + hush + "-1\nURL=\"postgres://" + hush + "-2@db\"\nKEY='-----BEGIN\n" + hush + "-3\n-----END'\nMORE=$PASSWORD\n"

// write makes both .env files.
func (s secrets) write(lines ...string) {
	s.t.Helper()
	text := env(lines...) + secretLines
	s.Write("/etc/app-rollout/shop.env", text, 0o600)
	s.Write("/srv/alice/.env", strings.ReplaceAll(text, "PORT=8080", "PORT=8081"), 0o600)
	s.Sh("chown -R alice:alice /srv/alice; ln -sfn /srv/alice/.env /etc/app-rollout/hers.env")
}

// deploy rolls both out. It may fail.
func (s secrets) deploy(lines ...string) {
	s.t.Helper()
	s.write(lines...)
	s.Run(context.Background(), "systemctl", "start", "app-rollout.service")
}

// readable is a script that looks for a secret everywhere where others could read it.
// It has the secret from /root/secret, so that no command line has it. A new place is
// a line here.
const readable = `
see() { what=$1; shift; "$@" 2>&1 | grep -a -n -m3 --file=/root/secret | sed "s|^|$what: |"; }
see 'systemctl show' systemctl show '*'
see 'systemctl show of an app' systemctl show 'shop@*' 'hers@*' 'app-rollout*'
see 'systemctl cat' systemctl cat 'shop@1' 'hers@1' app-rollout.service
see 'systemctl status' systemctl status --full --lines=100 'shop@*' 'hers@*' 'app-rollout*'
see 'the manager' systemctl show-environment
see journal journalctl --no-pager --all --output=export
see 'kernel log' dmesg
see ps ps axww
see 'command lines' sh -c 'cat /proc/[0-9]*/cmdline'
see status app-rollout status
see 'status --json' app-rollout status --json
see history app-rollout history shop
see show app-rollout show shop
see check app-rollout check
see 'check --json' app-rollout check --json
see 'check of a file' app-rollout check /srv/alice/.env
find / /run /tmp /dev /var/tmp -xdev -newer /stamp -type f -size -20M -exec grep -l -a --file=/root/secret {} + 2>/dev/null |
	xargs -r stat --format='%a %U %n' | grep -v -e '^600 root ' -e '^600 alice /srv/alice/.env' | sed 's/^/file: /'
find / /run -xdev -path '*core*' -newer /stamp -type f -name 'core*' 2>/dev/null | sed 's/^/core: /'
true`

// untold checks that no secret can be seen.
func (s secrets) untold(when string) {
	s.t.Helper()
	if out := s.Sh(readable); out != "" {
		s.t.Errorf("%s:\n%s", when, out)
	}
}

// brokenLines are lines with a secret in them that are refused. A new one is a line
// here.
var brokenLines = []string{
	"X=\"" + hush + "-4", "X='" + hush + "-4", hush + "-4", "export", hush + " =x y", "SYSTEMD_NO=" + hush, "1X=" + hush,
	"NOTIFY_SOCKET=" + hush, "SYSTEMD_CLUSTER_NODES=" + hush, "SYSTEMD_EXEC_START=" + hush,
	"SYSTEMD_DESCRIPTION=$PASSWORD", "SYSTEMD_WORKING_DIRECTORY=/" + hush[:4] + "$PASSWORD", "SYSTEMD_AFTER=" + hush, "X=" + hush + "\ufdd0", "X=" + hush + "\xff", "X=" + hush + "\x00",
}

// TestSecrets: nobody but root and the app's own user can see the value of a variable
// that is neither a setting nor PORT, whatever is done with the app and whatever goes
// wrong.
func TestSecrets(t *testing.T) {
	onEachRelease(t, func(t *testing.T, on machine.Options) {
		s := secrets{newShop(t, on)}
		s.Write("/root/secret", hush, 0o600)
		s.Sh("useradd alice; mkdir -p /srv/alice; touch /stamp")
		s.write("GENERATION=g1")

		s.Must("systemctl", "daemon-reload") // never rolled out: frozen by the generator
		s.untold("never rolled out")
		s.deploy("GENERATION=g1")
		s.want("shop@1 shop@2")
		s.other(t, "hers").want("hers@1 hers@2")
		s.untold("rolled out")
		if own := s.Sh("cat /proc/" + s.Property("hers@1.service", "MainPID") + "/environ"); !strings.Contains(own, hush) {
			t.Fatalf("the app has no secret: nothing is tested")
		}
		r := s.Run(context.Background(), "setpriv", "--reuid=alice", "--clear-groups", "sh", "-c", "cat /proc/"+s.Property("shop@1.service", "MainPID")+"/environ /var/lib/app-rollout/*/current/env /run/systemd/generator/*/env* 2>/dev/null")
		if strings.Contains(r.Out, hush) {
			t.Error("another user can read it")
		}

		// Things go wrong.
		s.deploy("EXIT_AT_START=3")
		s.deploy("SYSTEMD_CLUSTER_READY_SEC=1", "NO_LISTEN=1")
		for _, line := range brokenLines {
			// An error does not show the value that a setting expands.
			if strings.HasPrefix(line, "SYSTEMD_DESCRIPTION=") {
				line = "PASSWORD=" + hush + "\n" + line
			}
			s.RunInput(context.Background(), env()+secretLines+line+"\n", "sh", "-c", "umask 077; cat >/etc/app-rollout/shop.env")
			s.Run(context.Background(), "sh", "-c", swap+" shop 2>&1 | logger; app-rollout check 2>&1 | logger; app-rollout check --json 2>&1 | logger; "+generate+" /tmp 2>&1 | logger")
		}
		s.Must("systemctl", "daemon-reload")
		s.untold("what is refused")

		s.crashes()
		s.untold("crashed")
		s.deploy("GENERATION=g9")
		s.untold("rolled out again")
	})
}

// crashes makes the helper crash while it watches. It tells the journal where it was,
// but no values.
func (s secrets) crashes() {
	s.t.Helper()
	for _, signal := range []string{"QUIT", "ABRT", "SEGV"} {
		s.write("GENERATION=crash", "SYSTEMD_CLUSTER_WATCH_SEC=30")
		s.Must("systemctl", "start", "--no-block", s.service())
		s.until("shop: watching")
		s.Must("systemctl", "kill", "--kill-whom=main", "--signal="+signal, s.service())
		s.Wait("its end", 30*time.Second, func() bool {
			state := s.Property(s.service(), "ActiveState")
			return state == "failed" || state == "inactive"
		})
	}
	if trace := s.Sh("journalctl --sync; journalctl --output=cat | grep -c '^goroutine ' || true"); trace == "0" {
		s.t.Error("no trace in the journal: nothing is tested")
	}
}

// TestSyscalls: the generator connects to nobody, and nobody else can open a file with
// values at any moment.
func TestSyscalls(t *testing.T) {
	m := machine.Boot(t, machine.Options{Install: true, Packages: []string{"acl", "strace"}})
	m.Write("/etc/app-rollout/shop.env", "SYSTEMD_EXEC_START='/usr/bin/sleep infinity'\nSYSTEMD_CLUSTER_WATCH_SEC=0\nX="+hush+"\n", 0o600)
	m.Write("/etc/app-rollout/bomb.env", "SYSTEMD_EXEC_START=/usr/bin/true\nA=x\nB="+strings.Repeat("$A", 20)+"\n", 0o600) // parsed in a process of its own
	made := func(command string) string {
		m.Sh("umask 0; mkdir -p /tmp/out; strace -f -o /tmp/trace -e trace=network,openat,mkdirat,mkdir,open,creat,fchmod,fchmodat,chmod " + command)
		return m.Read("/tmp/trace")
	}
	trace := made(generate + " /tmp/out")
	for _, call := range []string{"socket(", "connect(", "sendto(", "sendmsg("} {
		if strings.Contains(trace, call) {
			t.Errorf("the generator calls %s", call)
		}
	}
	trace += made(swap + " shop")
	files := 0
	for _, line := range strings.Split(trace, "\n") {
		if strings.Contains(line, "chmod") && !strings.Contains(line, ", 0644)") { // a unit file, which holds no values
			t.Errorf("a mode is mended afterwards: %s", line)
		}
		for _, name := range []string{`/env"`, `/environment"`, `/unit"`, `/generation.json"`} {
			if strings.Contains(line, name) && strings.Contains(line, "O_CREAT") {
				files++
				if !strings.Contains(line, "O_EXCL") || !strings.Contains(line, ", 0600)") {
					t.Error(line)
				}
			}
		}
		if strings.Contains(line, "mkdir") && strings.Contains(line, ".generation") && !strings.Contains(line, ", 0700)") {
			t.Error(line)
		}
	}
	if files < 12 {
		t.Errorf("only %d files: nothing is tested\n%s", files, trace)
	}
}

// TestExposure: systemd-analyze finds every kind of unit secure, and understands every
// setting and the file that a rollout gives an instance.
func TestExposure(t *testing.T) {
	every, err := os.ReadFile(filepath.Join(machine.Root(), "units", "testdata", "every.env"))
	if err != nil {
		t.Fatal(err)
	}
	onEachRelease(t, func(t *testing.T, on machine.Options) {
		m := newShop(t, on)
		m.Sh("useradd alice; mkdir -p /srv/alice /home/alice/app; chown alice:alice /srv/alice /home/alice /home/alice/app")
		for app, env := range map[string]string{"dynamic": "", "cluster": "SYSTEMD_CLUSTER_MODE=1\nPORT=8080\n", "low": "PORT=443\n", "named": "SYSTEMD_USER=daemon\nSYSTEMD_TYPE=notify\n"} {
			m.Write("/etc/app-rollout/"+app+".env", "SYSTEMD_EXEC_START=/usr/bin/true\n"+env, 0o644)
		}
		for app, dir := range map[string]string{"hers": "/srv/alice", "home": "/home/alice/app"} {
			m.Write(dir+"/.env", "SYSTEMD_EXEC_START=/usr/bin/true\nSYSTEMD_CLUSTER_MODE=1\nPORT=3000\n", 0o600)
			m.Sh("chown alice:alice " + dir + "/.env; ln -s " + dir + "/.env /etc/app-rollout/" + app + ".env")
		}
		m.Sh("mkdir -p '/srv/a b' /srv/100%")
		m.Write("/etc/app-rollout/every.env", string(every), 0o644)
		m.Must("systemctl", "daemon-reload")
		units := strings.Fields("dynamic.service low.service named.service cluster@1.service hers@1.service home@1.service")
		verify := func(units ...string) {
			t.Helper()
			r := m.Run(context.Background(), "systemd-analyze", append([]string{"--man=no", "--generators=yes", "verify"}, units...)...)
			if r.Code != 0 || r.Out+r.Err != "" {
				t.Errorf("systemd-analyze verify: status %d\n%s%s", r.Code, r.Out, r.Err)
			}
		}
		verify(append(units, "every@1.service")...)
		for _, unit := range units {
			path := m.Property(unit, "FragmentPath")
			r := m.Run(context.Background(), "systemd-analyze", "security", "--no-pager", "--offline=yes", "--threshold=20", path)
			lines := strings.Split(r.Out, "\n")
			if r.Code != 0 {
				t.Errorf("%s: %s", unit, r.Out)
			}
			t.Log(unit, lines[len(lines)-1])
		}

		m.Write("/etc/app-rollout/pinned.env", "SYSTEMD_EXEC_START='/usr/bin/sleep infinity'\nSYSTEMD_CLUSTER_MODE=1\nSYSTEMD_CLUSTER_WATCH_SEC=600\n", 0o644)
		m.Must("systemctl", "start", "--no-block", "app-rollout@pinned.service")
		m.other(t, "pinned").until("pinned: watching")
		verify("/run/systemd/system/pinned@1.service")
	})
}
