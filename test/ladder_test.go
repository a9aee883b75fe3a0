//go:build story

package test

import (
	"slices"
	"strings"
	"testing"

	"app-rollout/test/load"
	"app-rollout/test/machine"
)

// noBPF are lines that take the right to use BPF from a service.
const noBPF = "CapabilityBoundingSet=\nCapabilityBoundingSet=CAP_NET_ADMIN CAP_SYS_PTRACE CAP_DAC_READ_SEARCH"

// dropIn adds lines to a unit's [Service], until back is called.
func (a *app) dropIn(unit, lines string) (back func()) {
	path := "/etc/systemd/system/" + unit + ".d/story.conf"
	a.Write(path, "[Service]\n"+lines+"\n", 0o644)
	a.Must("systemctl", "daemon-reload")
	return func() { a.Sh("rm " + path + "; systemctl daemon-reload") }
}

// odd is a server that shares its port by itself. It uses Multipath TCP (PROTOCOL=262,
// linux/in.h), or is bound to a network interface (DEVICE).
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

// A ground is a machine and an app on which steering is available, or not. A new one
// is a line in grounds.
type ground struct {
	app      string
	set, up  string // shell commands that change the machine, and change it back
	dropIns  map[string]string
	env      []string
	traffic  string
	why      string // "" for none
	blind    bool   // the clients cannot reach it
	noPort   bool
	asked    bool // a new generation that answers 500 fails all the same
	unshared bool // ports are not shared; status and check say so
}

var grounds = []ground{
	{app: "no-capability", dropIns: map[string]string{"app-rollout@.service": noBPF},
		traffic: "migrated", why: "is not permitted (it needs CAP_BPF", asked: true},
	{app: "no-capability-gunicorn", dropIns: map[string]string{"app-rollout@.service": noBPF},
		env: []string{"SYSTEMD_EXEC_START=" + gunicorn}, traffic: "migrated", why: "is not permitted (it needs CAP_BPF"},
	{app: "no-bpf-call", dropIns: map[string]string{"app-rollout@.service": "SystemCallFilter=~bpf"},
		traffic: "migrated", why: "is not permitted (it needs CAP_BPF"},
	{app: "no-pidfd", dropIns: map[string]string{"app-rollout@.service": "SystemCallFilter=~pidfd_getfd"},
		traffic: "migrated", why: "taking a listener's file descriptor is not permitted"},
	{app: "plain", dropIns: map[string]string{"app-rollout@.service": "SystemCallFilter=~bpf"},
		set: "echo 0 > /proc/sys/net/ipv4/tcp_migrate_req", up: "echo 1 > /proc/sys/net/ipv4/tcp_migrate_req",
		traffic: "plain", why: "is not permitted (it needs CAP_BPF"},
	{app: "plain-gunicorn", dropIns: map[string]string{"app-rollout@.service": "SystemCallFilter=~bpf"},
		set: "echo 0 > /proc/sys/net/ipv4/tcp_migrate_req", up: "echo 1 > /proc/sys/net/ipv4/tcp_migrate_req",
		env: []string{"SYSTEMD_EXEC_START=" + gunicorn}, traffic: "plain", why: "is not permitted (it needs CAP_BPF"},
	{app: "multipath-tcp", env: []string{"SYSTEMD_CLUSTER_REUSE_PORT=0", "PROTOCOL=262", "SYSTEMD_EXEC_START=/usr/bin/python3 /opt/apps/odd.py"},
		traffic: "migrated", why: "the listener on 127.0.0.1:8080 uses Multipath TCP"},
	// The helper cannot ask it for its health, and deploys it all the same.
	{app: "one-interface", env: []string{"SYSTEMD_CLUSTER_REUSE_PORT=0", "DEVICE=lo", "SYSTEMD_CLUSTER_HEALTH_PATH=/", "SYSTEMD_EXEC_START=/usr/bin/python3 /opt/apps/odd.py"},
		traffic: "steered"},
	{app: "no-shared-port", env: []string{"LISTEN=127.0.0.1:0"}, noPort: true, blind: true,
		traffic: "migrated", why: "does not share its port (SO_REUSEPORT)"},
	{app: "other-network", dropIns: map[string]string{"other-network@.service": "PrivateNetwork=yes"}, blind: true,
		traffic: "migrated", why: "listener in another network namespace"},
	{app: "ephemeral-beside", env: []string{"LISTEN=127.0.0.1:PORT,127.0.0.1:0", "SYSTEMD_CLUSTER_NODES=1"},
		traffic: "steered"},
	// An app that shares its port itself is steered without our port sharing too.
	{app: "no-port-sharing", set: `systemctl stop app-rollout-ports.service 'run-app\x2drollout\x2dbpf.mount'; systemctl mask --runtime app-rollout-ports.service`,
		up:  "systemctl unmask --runtime app-rollout-ports.service; systemctl start app-rollout-ports.service",
		env: []string{"REUSEPORT=1"}, traffic: "steered", unshared: true},
}

// TestLadder: where steering is unavailable, a rollout does the next best thing and
// says why. It never fails for that.
func TestLadder(t *testing.T) {
	t.Parallel()
	shop := newShop(t)
	shop.Write("/opt/apps/odd.py", odd, 0o644)
	for _, g := range grounds {
		t.Run(g.app, func(t *testing.T) {
			if g.set != "" {
				shop.Sh(g.set)
				defer shop.Sh(g.up)
			}
			for unit, lines := range g.dropIns {
				defer shop.dropIn(unit, lines)()
			}
			app := shop.other(t, g.app)
			defer app.discard()
			g.write(app, "g1")
			app.rollOut()
			var client *machine.Load
			if !g.blind {
				client = app.busy()
			}
			g.write(app, "g2")
			said := app.rollOut()
			if client != nil {
				app.more(client, 50)
				report := client.Stop()
				t.Logf("%s: %v", g.traffic, report)
				if g.traffic == "steered" {
					nothingLost(t, report)
				}
				if report.Kinds[load.Refused] > 0 {
					t.Errorf("%d refused", report.Kinds[load.Refused])
				}
			}
			g.tells(app, said)
			if g.asked {
				g.write(app, "g3", "STATUS=500", "SYSTEMD_CLUSTER_READY_SEC=2", "SYSTEMD_CLUSTER_HEALTH_PATH=/")
				if r := app.run(); r.Code != 1 || !strings.Contains(r.Out+r.Err, "answers GET / with status 500") || !strings.Contains(r.Out+r.Err, "generation 2 still serves") {
					t.Errorf("a new generation that answers 500: status %d: %s%s", r.Code, r.Out, r.Err)
				}
				app.answersOnly("g2")
			}
		})
	}
}

// write makes the .env of a generation.
func (g ground) write(app *app, generation string, lines ...string) {
	text := env(slices.Concat(g.env, []string{"SYSTEMD_CLUSTER_WATCH_SEC=0", "GENERATION=" + generation}, lines)...)
	if g.noPort {
		text = strings.Replace(text, "PORT=8080\n", "", 1)
	}
	app.Write(app.path(), text, 0o644)
}

// tells checks that the record, the log and status say how the rollout directed
// traffic, and why not better.
func (g ground) tells(app *app, said string) {
	t := app.t
	t.Helper()
	record := app.receipt("current").Rollout
	if record.Result != "ready" || record.Traffic != g.traffic || !strings.Contains(record.TrafficReason, g.why) || (g.why == "") != (record.TrafficReason == "") {
		t.Errorf("traffic was %s: %s; want %s: %s\n%s", record.Traffic, record.TrafficReason, g.traffic, g.why, said)
	}
	if g.app == "one-interface" && !strings.Contains(said, "SYSTEMD_CLUSTER_HEALTH_PATH is not asked for: the listener on") {
		t.Errorf("it is not said that its health is not asked for:\n%s", said)
	}
	if g.unshared {
		for _, command := range []string{"status", "check"} {
			if r := app.Run(t.Context(), "app-rollout", command); !strings.Contains(strings.ReplaceAll(r.Out+r.Err, "-", " "), "port sharing") && !strings.Contains(r.Out+r.Err, "instances cannot share their port") {
				t.Errorf("%s does not say that ports are not shared:\n%s%s", command, r.Out, r.Err)
			}
		}
	}
	if g.why == "" {
		return
	}
	if log := app.journal("APP_ROLLOUT_APP=" + g.app); !strings.Contains(log, "traffic is not steered, only "+g.traffic+": ") || !strings.Contains(log, g.why) {
		t.Errorf("the log does not say why:\n%s", log)
	}
	if status := app.Must("app-rollout", "status", g.app); !strings.Contains(status, g.traffic) || !strings.Contains(status, g.why) {
		t.Errorf("status does not say why:\n%s", status)
	}
}
