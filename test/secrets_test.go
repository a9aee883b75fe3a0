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

// hush stands for every secret of an .env.
const hush = "hush-5ecret"

// TestSecrets: no value of a variable that is neither a setting nor PORT can be
// seen by anybody but root and the app's own user, whatever is done with the app
// and whatever goes wrong.
func TestSecrets(t *testing.T) {
	for _, release := range []string{"bookworm", "trixie"} {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			m := machine.Boot(t, machine.Options{Release: release, Install: true, Layers: []string{machine.Apps(t)}})
			secrets := "PASSWORD=" + hush + "-1\nURL=\"postgres://" + hush + "-2@db\"\nKEY='-----BEGIN\n" + hush + "-3\n-----END'\nMORE=$PASSWORD\n"
			m.Write("/root/secret", hush, 0o600) // so that no command line of ours has it
			m.Sh("useradd alice; mkdir -p /srv/alice; touch /stamp")
			env := func(lines ...string) {
				m.Write("/etc/app-rollout/shop.env", shop(lines...)+secrets, 0o600)
				m.Write("/srv/alice/.env", strings.ReplaceAll(shop(lines...)+secrets, "PORT=8080", "PORT=8081"), 0o600)
				m.Sh("chown -R alice:alice /srv/alice; ln -sfn /srv/alice/.env /etc/app-rollout/hers.env")
			}
			env("GENERATION=g1")
			// What others could read is looked for while it is under way, too.
			leaks := func(when string) {
				t.Helper()
				out := m.Sh(`
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
					true`)
				if out != "" {
					t.Errorf("%s:\n%s", when, out)
				}
			}
			swapped := func(lines ...string) {
				env(lines...)
				m.Run(context.Background(), "systemctl", "start", "app-rollout.service")
			}

			m.Must("systemctl", "daemon-reload") // never rolled out: frozen by the generator
			leaks("never rolled out")
			swapped("GENERATION=g1")
			want(t, m, "shop", "shop@1 shop@2")
			want(t, m, "hers", "hers@1 hers@2")
			leaks("rolled out")
			if own := m.Sh("cat /proc/" + m.Property("hers@1.service", "MainPID") + "/environ"); !strings.Contains(own, hush) {
				t.Fatalf("the app has no secret: nothing is tested")
			}
			r := m.Run(context.Background(), "setpriv", "--reuid=alice", "--clear-groups", "sh", "-c", "cat /proc/"+m.Property("shop@1.service", "MainPID")+"/environ /var/lib/app-rollout/*/current/env /run/systemd/generator/*/env* 2>/dev/null")
			if strings.Contains(r.Out, hush) {
				t.Error("another user can read it")
			}

			// Whatever goes wrong.
			swapped("EXIT_AT_START=3")
			swapped("SYSTEMD_CLUSTER_READY_SEC=1", "NO_LISTEN=1")
			for _, line := range []string{
				"X=\"" + hush + "-4", "X='" + hush + "-4", hush + "-4", "export", hush + " =x y", "SYSTEMD_NO=" + hush, "1X=" + hush,
				"NOTIFY_SOCKET=" + hush, "SYSTEMD_CLUSTER_NODES=" + hush, "SYSTEMD_EXEC_START=" + hush,
				"SYSTEMD_DESCRIPTION=$PASSWORD", "SYSTEMD_WORKING_DIRECTORY=/" + hush[:4] + "$PASSWORD", "SYSTEMD_AFTER=" + hush, "X=" + hush + "\ufdd0", "X=" + hush + "\xff", "X=" + hush + "\x00",
			} {
				// Not only settings but everything else is refused without its value.
				if strings.HasPrefix(line, "SYSTEMD_DESCRIPTION=") {
					line = "PASSWORD=" + hush + "\n" + line
				}
				m.RunInput(context.Background(), shop()+secrets+line+"\n", "sh", "-c", "umask 077; cat >/etc/app-rollout/shop.env")
				m.Run(context.Background(), "sh", "-c", swap+" shop 2>&1 | logger; app-rollout check 2>&1 | logger; app-rollout check --json 2>&1 | logger; /usr/lib/systemd/system-generators/app-rollout-generator /tmp 2>&1 | logger")
			}
			m.Must("systemctl", "daemon-reload")
			leaks("what is refused")

			// A helper that crashes tells the journal where it was, not what it held.
			for _, signal := range []string{"QUIT", "ABRT", "SEGV"} {
				env("GENERATION=crash", "SYSTEMD_CLUSTER_WATCH_SEC=30")
				m.Must("systemctl", "start", "--no-block", "app-rollout@shop.service")
				m.Wait("the helper to watch", 20*time.Second, func() bool {
					return strings.Contains(m.Property("app-rollout@shop.service", "StatusText"), "shop: watching")
				})
				m.Must("systemctl", "kill", "--kill-whom=main", "--signal="+signal, "app-rollout@shop.service")
				m.Wait("its end", 30*time.Second, func() bool {
					state := m.Property("app-rollout@shop.service", "ActiveState")
					return state == "failed" || state == "inactive"
				})
			}
			if trace := m.Sh("journalctl --sync; journalctl --output=cat | grep -c '^goroutine ' || true"); trace == "0" {
				t.Error("no trace in the journal: nothing is tested")
			}
			leaks("crashed")
			swapped("GENERATION=g9")
			leaks("rolled out again")
		})
	}
}

// TestSyscalls: the generator connects to nobody, and no file with values is
// anybody else's for a moment.
func TestSyscalls(t *testing.T) {
	m := machine.Boot(t, machine.Options{Install: true, Packages: []string{"strace"}})
	m.Write("/etc/app-rollout/shop.env", "SYSTEMD_EXEC_START='/usr/bin/sleep infinity'\nSYSTEMD_CLUSTER_WATCH_SEC=0\nX="+hush+"\n", 0o600)
	m.Write("/etc/app-rollout/bomb.env", "SYSTEMD_EXEC_START=/usr/bin/true\nA=x\nB="+strings.Repeat("$A", 20)+"\n", 0o600) // parsed in a process of its own
	made := func(command string) string {
		m.Sh("umask 0; mkdir -p /tmp/out; strace -f -o /tmp/trace -e trace=network,openat,mkdirat,mkdir,open,creat,fchmod,fchmodat,chmod " + command)
		return m.Read("/tmp/trace")
	}
	trace := made("/usr/lib/systemd/system-generators/app-rollout-generator /tmp/out")
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

// TestExposure: what systemd-analyze says of every default kind of unit; and it
// understands every setting, and the file that a rollout gives an instance.
func TestExposure(t *testing.T) {
	every, err := os.ReadFile(filepath.Join(machine.Root(), "units", "testdata", "every.env"))
	if err != nil {
		t.Fatal(err)
	}
	for _, release := range []string{"bookworm", "trixie"} {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			m := machine.Boot(t, machine.Options{Release: release, Install: true})
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
			m.Wait("the rollout to watch", 20*time.Second, func() bool {
				return strings.Contains(m.Property("app-rollout@pinned.service", "StatusText"), "pinned: watching")
			})
			verify("/run/systemd/system/pinned@1.service")
		})
	}
}
