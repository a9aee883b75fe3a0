//go:build story

package test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"app-rollout/test/load"
	"app-rollout/test/machine"
	"app-rollout/units/store"
)

// server is one real web server as an app. In env and files {g} stands for the
// generation ("g1", "g2", …), and every answer begins with it. Each runs under
// the hardening that every app has; what one needs lifted stands in its env.
type server struct {
	name  string
	env   []string
	files map[string]string
}

// servers are what people run, on their stop signals: most of them cut what
// they have in hand, or keep the listener until it is done.
var servers = []server{
	{name: "gunicorn-sync", env: []string{ // TERM: finishes, but takes nothing any more from its queue
		"SYSTEMD_EXEC_START=/usr/bin/gunicorn --chdir /opt/apps --reuse-port -b 127.0.0.1:8080 -w 2 wsgi:app"}},
	{name: "gunicorn-gthread", env: []string{
		"SYSTEMD_EXEC_START=/usr/bin/gunicorn --chdir /opt/apps --reuse-port -b 127.0.0.1:8080 -w 1 -k gthread --threads 8 wsgi:app"}},
	{name: "uwsgi", env: []string{ // TERM cuts
		"SYSTEMD_EXEC_START=/usr/bin/uwsgi --plugin python3 --http-socket 127.0.0.1:8080 --reuse-port --master --die-on-term -p 2 --disable-logging --wsgi-file /opt/apps/wsgi.py"}},
	{name: "unicorn", // TERM cuts
		env:   []string{"SYSTEMD_EXEC_START=/usr/bin/unicorn -E deployment -c /opt/apps/unicorn.rb /opt/apps/config.ru"},
		files: map[string]string{"/opt/apps/unicorn.rb": "worker_processes 2\nlisten '127.0.0.1:8080', :reuseport => true\nlogger Logger.new(IO::NULL)\n"}},
	{name: "nginx", // TERM cuts; one listener for each worker
		env: []string{"SYSTEMD_EXEC_START=/usr/sbin/nginx -c /opt/apps/nginx-{g}.conf"},
		files: map[string]string{"/opt/apps/nginx-{g}.conf": `daemon off;
pid /tmp/nginx.pid;
error_log stderr;
worker_processes 2;
events {}
http {
	access_log off;
	client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/fastcgi;
	uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
	server { listen 127.0.0.1:8080 reuseport; return 200 "{g}\n"; }
}
`}},
	{name: "haproxy", // TERM cuts
		env: []string{"SYSTEMD_TYPE=notify", "SYSTEMD_EXEC_START=/usr/sbin/haproxy -Ws -f /opt/apps/haproxy.cfg"},
		files: map[string]string{"/opt/apps/haproxy.cfg": `global
	maxconn 200
defaults
	mode http
	timeout client 10s
	timeout connect 10s
	timeout server 10s
frontend app
	bind 127.0.0.1:8080
	http-request return status 200 content-type text/plain lf-string "%[env(GENERATION)]\n"
`}},
	{name: "caddy",
		env: []string{"SYSTEMD_TYPE=notify", "HOME=/tmp",
			"SYSTEMD_EXEC_START=/usr/bin/caddy run --config /opt/apps/Caddyfile --adapter caddyfile"},
		files: map[string]string{"/opt/apps/Caddyfile": "{\n\tadmin off\n}\nhttp://127.0.0.1:8080 {\n\tbind 127.0.0.1\n\trespond \"{$GENERATION}\"\n}\n"}},
	{name: "node", env: []string{ // TERM kills
		"SYSTEMD_EXEC_START=/usr/local/bin/node /opt/apps/server.js"}},
	{name: "bun", // TERM kills
		env: []string{"SYSTEMD_EXEC_START=/usr/local/bin/bun run /opt/apps/bun.js"},
		files: map[string]string{"/opt/apps/bun.js": "Bun.serve({ hostname: '127.0.0.1', port: Number(process.env.PORT), reusePort: true,\n" +
			"  fetch: () => new Response(process.env.GENERATION + ' ' + process.env.SYSTEMD_INSTANCE + '\\n') });\n"}},

	// These never ask for SO_REUSEPORT: a second copy would not start by itself.
	{name: "uvicorn", env: []string{
		"SYSTEMD_EXEC_START=/usr/bin/uvicorn --app-dir /opt/apps --host 127.0.0.1 --port 8080 --no-access-log asgi:app"}},
	{name: "puma", env: []string{
		"SYSTEMD_EXEC_START=/usr/bin/puma -e production -b tcp://127.0.0.1:8080 /opt/apps/config.ru"}},
	{name: "hypercorn", env: []string{
		"SYSTEMD_WORKING_DIRECTORY=/opt/apps",
		"SYSTEMD_EXEC_START=/usr/bin/hypercorn -w 1 -b 127.0.0.1:8080 asgi:app"}},
	{name: "http-server",
		env:   []string{"SYSTEMD_EXEC_START=/usr/bin/python3 -m http.server --bind 127.0.0.1 --directory /opt/apps/static-{g} 8080"},
		files: map[string]string{"/opt/apps/static-{g}/index.html": "{g}\n"}},
	{name: "node-plain", env: []string{"NO_REUSEPORT=1",
		"SYSTEMD_EXEC_START=/usr/local/bin/node /opt/apps/server.js"}},
	{name: "go", env: []string{
		"SYSTEMD_EXEC_START=/opt/apps/server"}},
	{name: "go-dies-at-term", env: []string{"STOP=die",
		"SYSTEMD_EXEC_START=/opt/apps/server"}},
	{name: "go-sigkill", env: []string{"SYSTEMD_KILL_SIGNAL=SIGKILL",
		"SYSTEMD_EXEC_START=/opt/apps/server"}},
}

// app is the server's name as an app's: that of an installed unit is refused.
func (s server) app() string { return "my-" + s.name }

// write puts a generation of the server in place.
func (s server) write(m *machine.Machine, generation int, lines ...string) {
	g := strings.NewReplacer("{g}", "g"+strconv.Itoa(generation))
	for path, text := range s.files {
		m.Write(g.Replace(path), g.Replace(text), 0o644)
	}
	env := append([]string{
		"SYSTEMD_CLUSTER_MODE=1", "SYSTEMD_CLUSTER_NODES=2", "SYSTEMD_CLUSTER_WATCH_SEC=0",
		"SYSTEMD_CLUSTER_HEALTH_PATH=/", "PORT=8080", "GENERATION={g}",
	}, append(s.env, lines...)...)
	m.Write("/etc/app-rollout/"+s.app()+".env", g.Replace(strings.Join(env, "\n")+"\n"), 0o644)
}

// full is how the tables of RESULTS.md are measured; else the same is done in short.
var full = os.Getenv("SERVERS") == "full"

func serversMachine(t *testing.T) *machine.Machine {
	return machine.Boot(t, machine.Options{
		Install: true, Packages: machine.Servers,
		Layers: []string{machine.Apps(t), machine.Node(t), machine.Bun(t)},
	})
}

// TestServers: no server of the table loses a connection, whatever it does on
// its stop signal and whether or not it asks for SO_REUSEPORT; and every
// connection is answered by the generation that was to have it.
func TestServers(t *testing.T) {
	t.Parallel()
	m := serversMachine(t)
	e := effort{rollouts: 2, clients: 8, pause: 2 * time.Millisecond, calm: 50}
	if full {
		// More clients, but not more requests than leave one of two CPUs free, which
		// an instance that starts takes; and about as many answers between the
		// rollouts as in one.
		e = effort{rollouts: 5, clients: 32, pause: 20 * time.Millisecond, calm: 2500}
	}
	var rows table
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) {
			row := row{name: s.name, ours: s.rollouts(t, m, e, "SYSTEMD_CLUSTER_WATCH_SEC=1")}
			inOrder(t, m, s.app(), row.ours.report.Answers)
			row.ours.steered(t)
			if !full {
				discard(m, s.app())
				return
			}
			row.ours.kept = s.kept(m, e.rollouts+2)
			discard(m, s.app())

			more := e
			more.pause /= 2
			row.more = s.rollouts(t, m, more, "SYSTEMD_CLUSTER_WATCH_SEC=1")
			row.more.steered(t)
			discard(m, s.app())

			back := plain(m)
			row.plain = s.rollouts(t, m, e)
			row.plain.kept = s.kept(m, e.rollouts+2)
			discard(m, s.app())
			back()
			for _, d := range []measured{row.ours, row.more, row.plain} {
				// Only a few of the first, until it has turned its clock for packets on.
				if n := d.report.Untimed; n > e.clients {
					t.Errorf("the kernel gave %d answers no time", n)
				}
			}
			rows = append(rows, row)
			path := filepath.Join(machine.Root(), "build", "servers.md")
			if err := os.WriteFile(path, []byte(rows.markdown(e)), 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestServersOnLowerRungs: where steering is not to be had, each server is
// rolled out all the same, the record says how and why, nobody is refused, and
// nothing answers that is not up.
func TestServersOnLowerRungs(t *testing.T) {
	t.Parallel()
	m := serversMachine(t)
	dropIn(m, "app-rollout@.service", noBPF)
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) {
			defer discard(m, s.app())
			s.write(m, 1)
			deploys(t, m, s.app())
			client := m.Load(load.Options{Addr: "127.0.0.1:8080", Workers: 4, Want: "g", Timeline: true, Pause: 5 * time.Millisecond})
			m.Wait("answers", 20*time.Second, func() bool { return client.Answered() > 20 })
			var took []span
			for i, rung := range []string{"migrated", "plain"} {
				m.Sh(fmt.Sprintf("echo %d > /proc/sys/net/ipv4/tcp_migrate_req", 1-i))
				took = append(took, s.rollout(t, m, 2+i))
				record := receipt(m, s.app(), "current").Rollout
				if why := "is not permitted (it needs CAP_BPF"; record.Result != "ready" || record.Rung != rung || !strings.Contains(record.RungWhy, why) {
					t.Errorf("%s: traffic was %s: %s; want %s: %s", record.Result, record.Rung, record.RungWhy, rung, why)
				}
			}
			last := client.Answered()
			m.Wait("answers of the last generation", 20*time.Second, func() bool { return client.Answered() > last+20 })
			report := client.Stop()
			t.Logf("clients: %v", report)
			if n := report.Kinds[load.Refused]; n > 0 {
				t.Errorf("%d refused", n)
			}
			onlyUp(t, report.Answers, took)
		})
	}
}

// onlyUp holds that every answer is of a generation that was up: from the
// beginning of its own rollout, of which the first is the second generation's,
// to the end of the next one's.
func onlyUp(t *testing.T, answers []load.Answer, took []span) {
	t.Helper()
	last := len(took) + 1
	seen := 0
	for _, a := range answers {
		word, _, _ := strings.Cut(a.Label, " ")
		g, err := strconv.Atoi(strings.TrimPrefix(word, "g"))
		if err != nil || g < 1 || g > last {
			t.Fatalf("an answer from %q", a.Label)
		}
		if g > 1 && a.End < took[g-2].from.UnixNano() || g < last && a.Start > took[g-1].to.UnixNano() {
			t.Errorf("an answer from %q, which was not up: %+v", a.Label, a)
		}
		if a.Start > took[last-2].to.UnixNano() {
			seen++
		}
	}
	if seen == 0 {
		t.Error("no answer from the last generation")
	}
}

// effort is how much of a server is measured.
type effort struct {
	rollouts, clients int
	pause             time.Duration // of each client, between its requests
	calm              int           // answers before each rollout and after the last
}

// measured is what the clients saw of some rollouts.
type measured struct {
	report  *load.Report
	took    []span
	records []*store.Receipt
	idle    float64 // share of the CPUs' time, between the rollouts
	kept    string  // what clients lost that keep their connections
}

// steered holds that traffic was steered in each rollout and nothing was lost.
func (d measured) steered(t *testing.T) {
	t.Helper()
	nothingLost(t, d.report)
	for _, record := range d.records {
		if record.Rung != "steered" {
			t.Errorf("traffic was %s: %s", record.Rung, record.RungWhy)
		}
	}
}

type span struct{ from, to time.Time }

// rollout rolls a generation out, as a deploy script does: nobody watches it.
func (s server) rollout(t *testing.T, m *machine.Machine, generation int, lines ...string) span {
	t.Helper()
	s.write(m, generation, lines...)
	from := time.Now()
	m.Must("systemctl", "start", "app-rollout@"+s.app()+".service")
	return span{from, time.Now()}
}

// rollouts starts the server and rolls it out so many times under load.
func (s server) rollouts(t *testing.T, m *machine.Machine, e effort, lines ...string) measured {
	t.Helper()
	s.rollout(t, m, 1)
	client := m.Load(load.Options{Addr: "127.0.0.1:8080", Workers: e.clients, Want: "g", Timeline: true, Pause: e.pause})
	calm := func() (idle, all int64) {
		last := client.Answered()
		idleBefore, allBefore := cpuTime(t)
		m.Wait("answers", 20*time.Second, func() bool { return client.Answered() > last+e.calm })
		idle, all = cpuTime(t)
		return idle - idleBefore, all - allBefore
	}
	calm() // it was not warm
	var d measured
	var idle, all int64
	for g := 2; g <= e.rollouts+1; g++ {
		d.took = append(d.took, s.rollout(t, m, g, lines...))
		d.records = append(d.records, receipt(m, s.app(), "current").Rollout)
		i, a := calm()
		idle, all = idle+i, all+a
	}
	d.report, d.idle = client.Stop(), float64(idle)/float64(max(all, 1))
	return d
}

// cpuTime is how long the machine's CPUs were idle since it was booted, and how
// long they were there, in ticks: proc_stat(5).
func cpuTime(t *testing.T) (idle, all int64) {
	t.Helper()
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	// The guests' time, at the end, is counted among the first two already.
	for i, field := range strings.Fields(first)[1:9] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if all += n; i == 3 || i == 4 { // idle, or waiting for a disk
			idle += n
		}
	}
	return idle, all
}

// kept rolls the server out once under clients that keep their connections,
// as far as it lets them, and tells how many requests these lost.
func (s server) kept(m *machine.Machine, generation int) string {
	s.write(m, generation)
	done := make(chan machine.Result, 1)
	go func() {
		done <- m.Run(context.Background(), "wrk", "-t", "1", "-c", "16", "-d", "4", "http://127.0.0.1:8080/")
	}()
	m.Wait("wrk", 20*time.Second, func() bool {
		return m.Run(context.Background(), "sh", "-c", "ss -Htn state established sport = :8080 | grep -q .").Code == 0
	})
	if r := run(m, s.app()); r.Code != 0 {
		return "failed"
	}
	return wrkLost((<-done).Out)
}

var (
	wrkTotal  = regexp.MustCompile(`(\d+) requests in`)
	wrkErrors = regexp.MustCompile(`Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)`)
)

// wrkLost reads wrk's summary: "12 of 34567". A server that closes after every
// answer without saying so fails wrk at each.
func wrkLost(out string) string {
	total := wrkTotal.FindStringSubmatch(out)
	if total == nil {
		return "?"
	}
	lost := 0
	if e := wrkErrors.FindStringSubmatch(out); e != nil {
		for _, n := range e[1:] {
			i, _ := strconv.Atoi(n)
			lost += i
		}
	}
	if all, _ := strconv.Atoi(total[1]); 2*lost > all {
		return "keeps none"
	}
	return fmt.Sprintf("%d of %s", lost, total[1])
}

// plain takes steering away from the rollouts, and moving of queued
// connections from the kernel: what is left is start, wait, stop.
func plain(m *machine.Machine) (back func()) {
	lift := dropIn(m, "app-rollout@.service", noBPF)
	m.Sh("echo 0 > /proc/sys/net/ipv4/tcp_migrate_req")
	return func() {
		m.Sh("echo 1 > /proc/sys/net/ipv4/tcp_migrate_req")
		lift()
	}
}
