//go:build story

package test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"app-rollout/test/load"
	"app-rollout/test/machine"
)

// noBPF takes the right to use BPF from a rollout's service.
const noBPF = "CapabilityBoundingSet=\nCapabilityBoundingSet=CAP_NET_ADMIN CAP_SYS_PTRACE CAP_DAC_READ_SEARCH"

// dropIn adds lines to a unit's [Service], until back is called.
func dropIn(m *machine.Machine, unit, lines string) (back func()) {
	path := "/etc/systemd/system/" + unit + ".d/story.conf"
	m.Write(path, "[Service]\n"+lines+"\n", 0o644)
	m.Must("systemctl", "daemon-reload")
	return func() { m.Sh("rm " + path + "; systemctl daemon-reload") }
}

// odd is a server on Multipath TCP (PROTOCOL=262, linux/in.h), or tied to a
// network interface (DEVICE), which shares its port by itself.
const odd = `import http.server, os, socket

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = (os.environ["GENERATION"] + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass

class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128

server = Server(("127.0.0.1", int(os.environ["PORT"])), Handler, bind_and_activate=False)
server.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, int(os.environ.get("PROTOCOL", 0)))
server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
if "DEVICE" in os.environ:
    server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, os.environ["DEVICE"].encode())
server.server_bind()
server.server_activate()
server.serve_forever()
`

// TestLadder: where steering is not to be had, the rollout is the next best
// one, and says why; it never fails for that.
func TestLadder(t *testing.T) {
	t.Parallel()
	m := machine.Boot(t, machine.Options{Install: true, Layers: []string{machine.Apps(t)}})
	gunicorn := "SYSTEMD_EXEC_START=/usr/bin/gunicorn --chdir /opt/apps --reuse-port -b 127.0.0.1:8080 -w 2 wsgi:app"
	m.Write("/opt/apps/odd.py", odd, 0o644)
	for _, c := range []struct {
		app      string
		set, up  string // shell commands: to bring the machine there, and back
		dropIns  map[string]string
		env      []string
		rung     string
		why      string // "" for none
		blind    bool   // the clients cannot reach it
		noPort   bool
		asked    bool // then a new generation that is not well is found out all the same
		unshared bool // ports are not shared, as status and check say
	}{
		{app: "no-capability", dropIns: map[string]string{"app-rollout@.service": noBPF},
			rung: "migrated", why: "is not permitted (it needs CAP_BPF", asked: true},
		{app: "no-capability-gunicorn", dropIns: map[string]string{"app-rollout@.service": noBPF},
			env: []string{gunicorn}, rung: "migrated", why: "is not permitted (it needs CAP_BPF"},
		{app: "no-bpf-call", dropIns: map[string]string{"app-rollout@.service": "SystemCallFilter=~bpf"},
			rung: "migrated", why: "is not permitted (it needs CAP_BPF"},
		{app: "no-pidfd", dropIns: map[string]string{"app-rollout@.service": "SystemCallFilter=~pidfd_getfd"},
			rung: "migrated", why: "taking a listener's file descriptor is not permitted"},
		{app: "plain", dropIns: map[string]string{"app-rollout@.service": "SystemCallFilter=~bpf"},
			set: "echo 0 > /proc/sys/net/ipv4/tcp_migrate_req", up: "echo 1 > /proc/sys/net/ipv4/tcp_migrate_req",
			rung: "plain", why: "is not permitted (it needs CAP_BPF"},
		{app: "plain-gunicorn", dropIns: map[string]string{"app-rollout@.service": "SystemCallFilter=~bpf"},
			set: "echo 0 > /proc/sys/net/ipv4/tcp_migrate_req", up: "echo 1 > /proc/sys/net/ipv4/tcp_migrate_req",
			env: []string{gunicorn}, rung: "plain", why: "is not permitted (it needs CAP_BPF"},
		{app: "multipath-tcp", env: []string{"SYSTEMD_CLUSTER_REUSE_PORT=0", "PROTOCOL=262", "SYSTEMD_EXEC_START=/usr/bin/python3 /opt/apps/odd.py"},
			rung: "migrated", why: "the listener on 127.0.0.1:8080 uses Multipath TCP"},
		// It cannot be asked for its health, and is deployed all the same.
		{app: "one-interface", env: []string{"SYSTEMD_CLUSTER_REUSE_PORT=0", "DEVICE=lo", "SYSTEMD_CLUSTER_HEALTH_PATH=/", "SYSTEMD_EXEC_START=/usr/bin/python3 /opt/apps/odd.py"},
			rung: "steered"},
		{app: "no-shared-port", env: []string{"LISTEN=127.0.0.1:0"}, noPort: true, blind: true,
			rung: "migrated", why: "does not share its port (SO_REUSEPORT)"},
		{app: "other-network", dropIns: map[string]string{"other-network@.service": "PrivateNetwork=yes"}, blind: true,
			rung: "migrated", why: "listener in another network namespace"},
		{app: "ephemeral-beside", env: []string{"LISTEN=127.0.0.1:PORT,127.0.0.1:0", "SYSTEMD_CLUSTER_NODES=1"},
			rung: "steered"},
		// Without the port sharing an app that shares its port itself is steered all
		// the same.
		{app: "no-port-sharing", set: `systemctl stop app-rollout-ports.service 'run-app\x2drollout\x2dbpf.mount'; systemctl mask --runtime app-rollout-ports.service`,
			up:  "systemctl unmask --runtime app-rollout-ports.service; systemctl start app-rollout-ports.service",
			env: []string{"REUSEPORT=1"}, rung: "steered", unshared: true},
	} {
		t.Run(c.app, func(t *testing.T) {
			if c.set != "" {
				m.Sh(c.set)
				defer m.Sh(c.up)
			}
			for unit, lines := range c.dropIns {
				defer dropIn(m, unit, lines)()
			}
			env := func(g string, lines ...string) {
				text := shop(slices.Concat(c.env, []string{"SYSTEMD_CLUSTER_WATCH_SEC=0", "GENERATION=" + g}, lines)...)
				if c.noPort {
					text = strings.Replace(text, "PORT=8080\n", "", 1)
				}
				m.Write("/etc/app-rollout/"+c.app+".env", text, 0o644)
			}
			defer discard(m, c.app)
			env("g1")
			deploys(t, m, c.app)
			var client *machine.Load
			if !c.blind {
				client = busy(m)
			}
			env("g2")
			said := deploys(t, m, c.app)
			if client != nil {
				last := client.Answered()
				m.Wait("answers", 20*time.Second, func() bool { return client.Answered() > last+50 })
				report := client.Stop()
				t.Logf("%s: %v", c.rung, report)
				if c.rung == "steered" {
					nothingLost(t, report)
				}
				if report.Kinds[load.Refused] > 0 {
					t.Errorf("%d refused", report.Kinds[load.Refused])
				}
			}
			record := receipt(m, c.app, "current").Rollout
			if record.Result != "ready" || record.Rung != c.rung || !strings.Contains(record.RungWhy, c.why) || (c.why == "") != (record.RungWhy == "") {
				t.Errorf("traffic was %s: %s; want %s: %s\n%s", record.Rung, record.RungWhy, c.rung, c.why, said)
			}
			if c.app == "one-interface" && !strings.Contains(said, "SYSTEMD_CLUSTER_HEALTH_PATH is not asked for: the listener on") {
				t.Errorf("it is not said that its health is not asked for:\n%s", said)
			}
			if c.unshared {
				for _, command := range []string{"status", "check"} {
					if r := m.Run(t.Context(), "app-rollout", command); !strings.Contains(strings.ReplaceAll(r.Out+r.Err, "-", " "), "port sharing") {
						t.Errorf("%s does not say that ports are not shared:\n%s%s", command, r.Out, r.Err)
					}
				}
			}
			if c.why == "" {
				return
			}
			if log := m.Sh("journalctl --sync; journalctl -b -o cat APP_ROLLOUT_APP=" + c.app); !strings.Contains(log, "traffic is not steered, only "+c.rung+": ") || !strings.Contains(log, c.why) {
				t.Errorf("the log does not say why:\n%s", log)
			}
			if status := m.Must("app-rollout", "status", c.app); !strings.Contains(status, c.rung) || !strings.Contains(status, c.why) {
				t.Errorf("status does not say why:\n%s", status)
			}
			if c.asked {
				env("g3", "STATUS=500", "SYSTEMD_CLUSTER_READY_SEC=2", "SYSTEMD_CLUSTER_HEALTH_PATH=/")
				if r := run(m, c.app); r.Code != 1 || !strings.Contains(r.Out+r.Err, "answers GET / with status 500") || !strings.Contains(r.Out+r.Err, "generation 2 still serves") {
					t.Errorf("a new generation that answers 500: status %d: %s%s", r.Code, r.Out, r.Err)
				}
				answersOnly(t, m, "g2")
			}
		})
	}
}
