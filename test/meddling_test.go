//go:build story

package test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"app-rollout/test/machine"
)

// TestMeddling: while a rollout is under way somebody else does things to
// systemd, or to an instance. $old and $new are two instances.
func TestMeddling(t *testing.T) {
	t.Parallel()
	v := newVictim(t, "bookworm")
	v.m.Copy(other(t), "/root/other.deb", 0o644)
	v.m.Copy(machine.Deb(t), "/root/own.deb", 0o644)
	const (
		instances = `old=$(systemctl list-units --plain --no-legend 'shop@*' | head -n1 | cut -d' ' -f1); new=$(systemctl list-units --plain --no-legend 'shop@*' | sort -V | tail -n1 | cut -d' ' -f1); `
		storm     = `for i in 1 2 3 4 5 6 7 8; do systemctl daemon-reload; done`
	)
	slow := []string{"SYSTEMD_TYPE=notify", "NOTIFY=1", "START_DELAY=2s"}
	for _, c := range []struct {
		name  string
		new   []string
		wound wound
		fails bool // the rollout, as it should
		cut   int  // requests at most that somebody else's stop of a serving instance takes along
	}{
		{"daemon-reload while they start", slow, wound{at: "start", after: 200 * time.Millisecond, do: storm}, false, 0},
		{"daemon-reload while they are watched", nil, wound{at: "watch", do: storm}, false, 0},
		{"daemon-reload at the commit", nil, wound{at: "commit", do: storm}, false, 0},
		{"daemon-reexec in the middle of their jobs", slow, wound{at: "start", after: 500 * time.Millisecond, do: "systemctl daemon-reexec"}, false, 0},
		{"daemon-reexec while the old ones stop", nil, wound{at: "stop", do: "systemctl daemon-reexec"}, false, 0},
		{"isolate while they are watched", nil, wound{at: "watch", after: 200 * time.Millisecond, do: "systemctl isolate multi-user.target"}, false, 0},
		{"isolate while they start", slow, wound{at: "start", after: 200 * time.Millisecond, do: "systemctl isolate multi-user.target"}, false, 0},
		{"an old one is stopped", nil, wound{at: "watch", do: instances + `systemctl stop $old`}, false, 0},
		{"an old one is restarted", slow, wound{at: "start", after: 200 * time.Millisecond, do: instances + `systemctl restart $old`}, false, 0},
		{"a new one is stopped", nil, wound{at: "watch", after: 200 * time.Millisecond, do: instances + `systemctl stop $new`}, true, 4},
		{"a new one is restarted", nil, wound{at: "watch", after: 200 * time.Millisecond, do: instances + `systemctl restart $new || true`}, true, 4},
		{"another package is installed while they start", slow, wound{at: "start", after: 200 * time.Millisecond, do: "dpkg --install /root/other.deb"}, false, 0},
		{"another package is removed while they are watched", nil, wound{at: "watch", do: "dpkg --remove other"}, false, 0},
		{"this package is installed again while they start", slow, wound{at: "start", after: 200 * time.Millisecond, do: "dpkg --install /root/own.deb"}, false, 0},
		{"this package is installed again at the commit", nil, wound{at: "commit", do: "dpkg --install /root/own.deb"}, false, 0},
		{"reset-failed", []string{"EXIT_AT_START=3"}, wound{at: "start", after: 300 * time.Millisecond, do: "systemctl reset-failed 'shop@*'"}, true, 0},
	} {
		began := time.Now()
		client := v.client()
		was, now := v.up, v.next()
		v.write(now, c.new...)
		v.wounds(c.wound)
		v.settles()
		result := v.m.Property("app-rollout@shop.service", "Result")
		if want := map[bool]string{false: "success", true: "exit-code"}[c.fails]; result != want {
			t.Errorf("%s: the run's result is %s, not %s", c.name, result, want)
		}
		if !c.fails {
			was = now
		}
		v.whole(c.name, was)
		v.up = was
		v.count(c.name, client, c.cut)
		t.Logf("%-45s %.1f s", c.name, time.Since(began).Seconds())
	}
	t.Logf("%d times, %d connections, %d lost", v.inflicted, v.answered+v.lost, v.lost)
}

// other is a package with a service of its own, which its scripts enable and
// start, as debhelper's do, and with an .env that is no app's of ours.
func other(t *testing.T) string {
	t.Helper()
	return repack(t, machine.Deb(t), func(dir string) {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		hostWrite(t, filepath.Join(dir, "DEBIAN/control"),
			"Package: other\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n")
		hostWrite(t, filepath.Join(dir, "usr/lib/systemd/system/other.service"),
			"[Service]\nExecStart=sleep infinity\n[Install]\nWantedBy=multi-user.target\n")
		hostWrite(t, filepath.Join(dir, "etc/app-rollout/other.env.off"), "")
		for script, text := range map[string]string{
			"postinst": "systemctl daemon-reload\nsystemctl enable other.service\nsystemctl start other.service\n",
			"prerm":    "systemctl stop other.service\nsystemctl disable other.service\n",
			"postrm":   "systemctl daemon-reload\n",
		} {
			path := filepath.Join(dir, "DEBIAN", script)
			hostWrite(t, path, "#!/bin/sh\nset -e\n"+text)
			if err := os.Chmod(path, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestRunsAtOnce: one rollout of an app at a time, whoever asks for it and how;
// and what is asked for while one is under way is rolled out too.
func TestRunsAtOnce(t *testing.T) {
	t.Parallel()
	v := newVictim(t, "bookworm")
	client := v.client()
	v.up = v.next()
	v.write(v.up)
	cursor := v.m.Sh("journalctl -q -n 0 --show-cursor | sed -n 's/^-- cursor: //p'")
	commands := [][]string{
		{"systemctl", "start", "app-rollout.service"},
		{"systemctl", "start", "app-rollout@shop.service"},
		{"/usr/lib/app-rollout/rollout-helper", "swap", "shop"},
		{"app-rollout", "run", "shop"},
		{"app-rollout", "run"},
	}
	ends := make(chan string, len(commands))
	for _, c := range commands {
		go func() {
			r := v.m.Run(context.Background(), c[0], c[1:]...)
			if r.Code != 0 {
				ends <- fmt.Sprintf("%s: status %d\n%s\n%s", strings.Join(c, " "), r.Code, r.Out, r.Err)
				return
			}
			ends <- ""
		}()
	}
	for range commands {
		if said := <-ends; said != "" {
			t.Error(said)
		}
	}
	v.settles()
	v.whole("five runs at once", v.up)
	under := ""
	for _, line := range strings.Split(v.m.Sh("journalctl --sync; journalctl -q --after-cursor='"+cursor+"' -o json --output-fields=_PID,APP_ROLLOUT_STEP APP_ROLLOUT_APP=shop"), "\n") {
		pid := between(line, `"_PID":"`, `"`)
		switch step := between(line, `"APP_ROLLOUT_STEP":"`, `"`); {
		case step == "lock":
		case under != "" && pid != under:
			t.Errorf("a run by %s, in the middle of one by %s: %s", pid, under, line)
		case step == "forget":
			under = ""
		default:
			under = pid
		}
	}

	// An edit made while a run is under way.
	v.write(v.next())
	edit := v.next()
	v.wounds(wound{at: "watch", do: "sed -i s/^GENERATION=.*/GENERATION=" + edit + "/ /etc/app-rollout/shop.env"})
	v.settles()
	v.whole("an edit during a run", edit)

	// A run that is asked for while one is under way begins after that.
	v.write(v.next())
	v.wounds(wound{at: "watch", do: ":"})
	v.deploy()
	v.whole("run beside a run", v.up)
	v.settles()
	v.whole("run beside a run, after it", v.up)
	v.count("runs at once", client, 0)
}

func between(s, from, to string) string {
	_, s, _ = strings.Cut(s, from)
	s, _, _ = strings.Cut(s, to)
	return s
}

// TestDisk: with no space, no right to write, or damage, a run ends with a clear
// line, the app goes on, and when that is mended the next run goes well.
func TestDisk(t *testing.T) {
	t.Parallel()
	v := newVictim(t, "bookworm")
	// The store on a small disk of its own.
	v.m.Sh(`cp -a /var/lib/app-rollout /root/store
mount -t tmpfs -o size=1m,mode=0700 store /var/lib/app-rollout
cp -a /root/store/. /var/lib/app-rollout`)
	v.deploy()
	client := v.client()
	const (
		fillVar = `dd if=/dev/zero of=/var/lib/app-rollout/.fill bs=4k 2>/dev/null || true`
		current = `/var/lib/app-rollout/shop/current`
	)
	for _, c := range []struct {
		name, damage, mend, says string
		at                       string // the step at which it is done; "" before the run
	}{
		{"/var is full", fillVar, "rm /var/lib/app-rollout/.fill", "no space left on device", ""},
		{"/var becomes full", fillVar, "rm /var/lib/app-rollout/.fill", "no space left on device", "watch"},
		{"/run is full", `dd if=/dev/zero of=/run/fill bs=4k 2>/dev/null || true`, "rm /run/fill", "no space left on device", ""},
		{"/var is read-only", "mount -o remount,ro /var/lib/app-rollout", "mount -o remount,rw /var/lib/app-rollout", "read-only file system", ""},
		{"the record is garbage", "cp " + current + "/generation.json /root/saved; echo garbage >" + current + "/generation.json", "cp /root/saved " + current + "/generation.json", "generation.json: is damaged", ""},
		{"the record is cut off", "cp " + current + "/generation.json /root/saved; truncate -s 30 " + current + "/generation.json", "cp /root/saved " + current + "/generation.json", "generation.json: is damaged", ""},
		{"current dangles", "readlink " + current + " >/root/saved; ln -sfn generations/999 " + current, `ln -sfn "$(cat /root/saved)" ` + current, "leads to a generation that is gone", ""},
	} {
		was := instances(v.m, "shop")
		v.write(v.next())
		if c.at == "" {
			v.m.Sh(c.damage)
			if r := v.m.Run(context.Background(), "systemctl", "start", "app-rollout@shop.service"); r.Code == 0 {
				t.Errorf("%s: the run says that all went well", c.name)
			}
		} else {
			v.wounds(wound{at: c.at, do: c.damage})
			v.settles()
		}
		said := v.m.Sh("journalctl --sync; journalctl -q -o cat _SYSTEMD_INVOCATION_ID=$(systemctl show --value -p InvocationID app-rollout@shop.service)")
		if !strings.Contains(said, c.says) {
			t.Errorf("%s: the run does not say %q:\n%s", c.name, c.says, said)
		}
		v.m.Run(context.Background(), "systemctl", "daemon-reload")
		if now := instances(v.m, "shop"); now != was {
			t.Errorf("%s: %q run, before it %q", c.name, now, was)
		}
		v.m.Sh(c.mend)
		v.whole(c.name+", mended", v.up)
		v.deploy()
		v.whole(c.name+", and run again", v.up)
	}
	v.count("disk", client, 0)
}

// TestOddApps: what an app may be like, and a rollout must not trip over it.
func TestOddApps(t *testing.T) {
	t.Parallel()
	v := newVictim(t, "bookworm")
	v.m.Write("/opt/forks", "#!/bin/sh\n# leaves children behind\nsleep 1000 &\nsetsid sleep 1000 &\nexec /opt/apps/server\n", 0o755)
	v.m.Write("/opt/leaks", "#!/usr/bin/python3\n"+leaks, 0o755)
	client := v.client()
	long := "8s"
	if soaking {
		long = "50s"
	}
	for _, c := range []struct {
		name  string
		lines []string
		says  string // "" if it goes well
	}{
		{"takes long to start", []string{"SYSTEMD_CLUSTER_READY_SEC=60", "SYSTEMD_TYPE=notify", "NOTIFY=1", "START_DELAY=" + long}, ""},
		{"opens its port late", []string{"SYSTEMD_CLUSTER_READY_SEC=60", "START_DELAY=6s"}, ""},
		{"ignores SIGTERM", []string{"STOP=ignore", "SYSTEMD_TIMEOUT_STOP_SEC=1"}, ""},
		{"leaves its children", []string{"SYSTEMD_EXEC_START=/opt/forks"}, ""},
		{"leaks its listener", []string{"SYSTEMD_EXEC_START=/opt/leaks", "SYSTEMD_TIMEOUT_STOP_SEC=2"}, ""},
		{"restarts in a loop", []string{"EXIT_AT_START=3", "SYSTEMD_RESTART_SEC=100ms"}, "exited with status 3"},
		{"wants another port", []string{"PORT=8081"}, "is to listen on port 8081, but listens on 8080"},
		{"takes one request and ends", []string{"EXIT_ON=1", "SYSTEMD_CLUSTER_HEALTH_PATH=/"}, "exited with status 1"},
	} {
		began := time.Now()
		now := v.next()
		v.write(now, c.lines...)
		r := run(v.m, "shop")
		if said := r.Out + r.Err; (r.Code != 0) != (c.says != "") || !strings.Contains(said, c.says) {
			t.Errorf("%s: status %d, want %q:\n%s", c.name, r.Code, c.says, said)
		}
		if r.Code == 0 {
			v.up = now
		}
		v.whole(c.name, v.up)
		t.Logf("%-30s %.1f s", c.name, time.Since(began).Seconds())
	}
	v.deploy()
	v.whole("a plain one again", v.up)
	if left := v.m.Sh("pgrep -a sleep || true"); left != "" {
		t.Errorf("processes are left of stopped instances: %s", left)
	}
	v.count("odd apps", client, 0)
}

// leaks is a server whose child keeps the listener open and answers nothing.
const leaks = `
import http.server, os, signal, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = ("%s x %d\n" % (os.environ["GENERATION"], os.getpid())).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
os.set_inheritable(server.fileno(), True)
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(1000)
    os._exit(0)
signal.signal(signal.SIGTERM, lambda *a: os._exit(0))
server.serve_forever()
`

// TestManyInstances of one app; while they are replaced there are twice as many.
// `make soak` has more, and kills the helper in the middle of them.
func TestManyInstances(t *testing.T) {
	t.Parallel()
	v := newVictim(t, "bookworm")
	v.size = 16
	if soaking {
		v.size = 32
	}
	v.lines = []string{"SYSTEMD_CLUSTER_NODES=" + fmt.Sprint(v.size), "SYSTEMD_CLUSTER_READY_SEC=60"}
	v.deploy()
	v.whole("many", v.up)
	if soaking {
		for _, p := range places {
			if p.step == "start" || p.step == "watch" || p.step == "drain" {
				v.cell(kill, p, "")
				v.cell(term, p, "")
			}
		}
	}
	client := v.client()
	v.deploy()
	v.whole("as many once more", v.up)
	first := strings.Fields(instances(v.m, "shop"))[:2]
	v.nodes = map[string]int{v.up: 2}
	v.write(v.up, "SYSTEMD_CLUSTER_NODES=2")
	deploys(t, v.m, "shop")
	v.whole("two", v.up)
	want(t, v.m, "shop", strings.Join(first, " "))
	v.count("many instances", client, 0)
	t.Logf("%d instances, %d faults, %d connections, %d lost", v.size, v.inflicted, v.answered+v.lost, v.lost)
}
