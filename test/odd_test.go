//go:build story

package test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestOddApps: a rollout copes with apps that behave in odd ways.
func TestOddApps(t *testing.T) {
	t.Parallel()
	v := newVictim(t)
	v.Write("/opt/forks", "#!/bin/sh\n# leaves children behind\nsleep 1000 &\nsetsid sleep 1000 &\nexec /opt/apps/server\n", 0o755)
	v.Write("/opt/leaks", "#!/usr/bin/python3\n"+leaks, 0o755)
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
		{"knows its own name only", []string{"KNOWS=shop.example", "SYSTEMD_CLUSTER_HEALTH_PATH=/health", "SYSTEMD_CLUSTER_HEALTH_HOST=shop.example"}, ""},
		{"is asked by another name", []string{"KNOWS=shop.example", "SYSTEMD_CLUSTER_HEALTH_PATH=/health", "SYSTEMD_CLUSTER_READY_SEC=2"}, "answers GET /health with status 400"},
		{"takes one request and ends", []string{"EXIT_ON=1", "SYSTEMD_CLUSTER_HEALTH_PATH=/"}, "exited with status 1"},
	} {
		began := time.Now()
		now := v.next()
		v.write(now, c.lines...)
		r := v.run()
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
	if left := v.Sh("pgrep -a sleep || true"); left != "" {
		t.Errorf("processes are left of stopped instances: %s", left)
	}
	v.count("odd apps", client)
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

// TestManyInstances replaces many instances of one app. `make soak` has more of them,
// and kills the helper in the middle.
func TestManyInstances(t *testing.T) {
	t.Parallel()
	v := newVictim(t)
	v.size = 16
	if soaking {
		v.size = 32
	}
	v.lines = []string{"SYSTEMD_CLUSTER_NODES=" + fmt.Sprint(v.size), "SYSTEMD_CLUSTER_READY_SEC=60"}
	v.deploy()
	v.whole("many", v.up)
	if soaking {
		for _, p := range places {
			if slices.Contains([]string{"start", "watch", "drain"}, p.name) {
				v.cell(kill, rollout, p)
				v.cell(term, rollout, p)
			}
		}
	}
	client := v.client()
	v.deploy()
	v.whole("as many once more", v.up)
	first := strings.Fields(v.instances())[:2]
	v.nodes[v.up] = 2
	v.write(v.up, "SYSTEMD_CLUSTER_NODES=2")
	v.rollOut()
	v.whole("two", v.up)
	v.want(strings.Join(first, " "))
	v.count("many instances", client)
	t.Logf("%d instances, %d faults, %d connections, %d lost", v.size, v.inflicted, v.answered+v.lost, v.lost)
}
