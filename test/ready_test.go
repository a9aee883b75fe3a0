//go:build story

package test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"app-rollout/test/load"
	"app-rollout/test/machine"
	"app-rollout/test/servers"
)

// loadings are releases that die while their app is loaded, in servers that bind the
// port before that, after that, and in between.
var loadings = []struct {
	app, exec string
	env       []string
	why       string
}{
	{app: "my-gunicorn", exec: gunicornLoads, why: notAccepted},
	{app: "notify-gunicorn", exec: gunicornLoads, env: []string{"SYSTEMD_TYPE=notify"}, why: notAccepted},
	{app: "preload-gunicorn", exec: gunicornLoads + " --preload", why: "exited with status 1"},
	{app: "preload-notify-gunicorn", exec: gunicornLoads + " --preload", env: []string{"SYSTEMD_TYPE=notify"}, why: "exited with status 1"},
	{app: "my-puma", exec: "/usr/bin/puma -C /opt/apps/loads-puma.rb", why: notAccepted},
	// unicorn listens with TCP_DEFER_ACCEPT.
	{app: "my-unicorn", exec: "/usr/bin/unicorn -E deployment -c /opt/apps/loads-unicorn.rb /opt/apps/loads.ru", why: notAccepted},
	{app: "my-uwsgi", exec: "/usr/bin/uwsgi --plugin python3 --http-socket 127.0.0.1:${PORT} --master --die-on-term --need-app -p 2 --disable-logging --wsgi-file /opt/apps/loads.py", why: "exited with status 1"},
}

const (
	notAccepted   = "was not ready after 30 s: it listens on 127.0.0.1:%d, but has not accepted the connection that was made to it"
	gunicornLoads = "/usr/bin/gunicorn --chdir /opt/apps -b 127.0.0.1:${PORT} -w 2 loads:app"
)

// loadingFiles are their files.
var loadingFiles = map[string]string{
	"loads.py": "import time\ntime.sleep(2)\nraise SystemExit('no database')\n",
	"loads.ru": "sleep 2\nabort 'no database'\n",
	"loads-puma.rb": `workers 2
preload_app! false
environment 'production'
bind "tcp://127.0.0.1:#{ENV['PORT']}"
rackup '/opt/apps/loads.ru'
`,
	"loads-unicorn.rb": `worker_processes 2
listen "127.0.0.1:#{ENV['PORT']}"
logger Logger.new(IO::NULL)
`,
}

// TestDiesWhileLoading: a release that binds its port and dies while it loads its app
// is not ready, whatever it reports to systemd, and however often its server starts new
// workers. Clients notice nothing.
func TestDiesWhileLoading(t *testing.T) {
	t.Parallel()
	shop := newShop(t, machine.Options{Packages: servers.Packages()})
	for name, text := range loadingFiles {
		shop.Write("/opt/apps/"+name, text, 0o644)
	}
	apps, names := make([]*app, len(loadings)), make([]string, len(loadings))
	lines := func(i int, more ...string) []string {
		return append([]string{fmt.Sprintf("PORT=%d", 8080+i), "SYSTEMD_CLUSTER_READY_SEC=30"}, more...)
	}
	for i, c := range loadings {
		apps[i], names[i] = shop.other(t, c.app), c.app
		apps[i].write(lines(i, "GENERATION=good", "SYSTEMD_CLUSTER_WATCH_SEC=0")...)
	}
	rollOut(shop, names...)
	clients := make([]*machine.Load, len(apps))
	for i, c := range loadings {
		clients[i] = shop.Load(load.Options{Addr: fmt.Sprintf("127.0.0.1:%d", 8080+i), Workers: 2, Pause: 20 * time.Millisecond})
		apps[i].write(lines(i, append(c.env, "GENERATION=bad", "SYSTEMD_EXEC_START="+c.exec)...)...)
	}
	r := run(shop, names...)
	if r.Code != 1 {
		t.Errorf("status %d:\n%s%s", r.Code, r.Out, r.Err)
	}
	for i, c := range loadings {
		why := c.why
		if strings.Contains(why, "%d") {
			why = fmt.Sprintf(why, 8080+i)
		}
		said := ""
		for line := range strings.Lines(r.Err) {
			if strings.HasPrefix(line, c.app+": ") {
				said += line
			}
		}
		if !strings.Contains(said, why) || !strings.Contains(said, "generation 1 still serves") {
			t.Errorf("%s says %q, want %q", c.app, said, why)
		}
		apps[i].want(c.app + "@1 " + c.app + "@2")
		apps[i].nothingLeft(c.app)
		report := clients[i].Stop()
		nothingLost(t, report)
		onlyFrom(t, report, "good")
	}
}

// accepts is a server that accepts as often as ACCEPTS says, and then no more. With DEFER
// it listens with TCP_DEFER_ACCEPT.
const accepts = `import os, socket, time

listener = socket.socket()
if "DEFER" in os.environ:
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, int(os.environ["DEFER"]))
listener.bind(("127.0.0.1", int(os.environ["PORT"])))
listener.listen(128)
for _ in range(int(os.environ["ACCEPTS"])):
    conn, _ = listener.accept()
    if conn.recv(4096):
        body = os.environ["GENERATION"] + " -\n"
        conn.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
    conn.close()
time.sleep(1e9)
`

// TestAccepts: an instance that connections wait on is committed if its processes are
// busy, however long, and not if it accepts nothing.
func TestAccepts(t *testing.T) {
	t.Parallel()
	shop := newShop(t)
	shop.Write("/opt/apps/accepts.py", accepts, 0o644)

	// One worker, which two clients ask for longer than it is watched.
	one := []string{"SYSTEMD_CLUSTER_NODES=1", "SYSTEMD_CLUSTER_WATCH_SEC=3", "SYSTEMD_EXEC_START=/usr/bin/gunicorn --chdir /opt/apps -b 127.0.0.1:8080 -w 1 wsgi:app"}
	shop.deploy(append(one, "GENERATION=g1")...)
	shop.begins("watching shop", append(one, "GENERATION=g2")...)
	const takes = 5 * time.Second
	client := shop.Load(load.Options{Addr: port, Workers: 2, Path: "/?delay=" + takes.String(), Once: true, Timeout: time.Minute})
	shop.Wait("the rollout to end", time.Minute, func() bool { return shop.Property(shop.service(), "ActiveState") == "inactive" })
	if g := shop.receipt("current"); g.Number != 2 {
		t.Errorf("generation %d is the current one, want that whose worker is busy", g.Number)
	}
	report := client.Stop()
	nothingLost(t, report)
	onlyFrom(t, report, "g2")
	if report.Max < 3*takes/2 {
		t.Errorf("no client waited: the longest took %v", report.Max)
	}

	py := []string{"SYSTEMD_EXEC_START=/usr/bin/python3 /opt/apps/accepts.py", "SYSTEMD_CLUSTER_READY_SEC=3"}
	deferred := append(py, "DEFER=30", "ACCEPTS=1000000")
	shop.deploy(append(deferred, "GENERATION=g3")...)
	shop.answersOnly("g3")
	others := shop.busy()
	shop.fails("accepts nothing", "was not ready after 3 s: it listens on 127.0.0.1:8080, but has not accepted the connection that was made to it",
		append(py, "ACCEPTS=0", "GENERATION=bad")...)
	shop.fails("accepts nothing, deferred", "was not ready after 3 s: it listens on 127.0.0.1:8080, but has not accepted the connection that was made to it",
		append(py, "ACCEPTS=0", "DEFER=30", "GENERATION=bad")...)
	shop.fails("accepts once", "has accepted none of the connections that wait for it, while it was watched",
		append(py, "ACCEPTS=1", "SYSTEMD_CLUSTER_WATCH_SEC=2", "GENERATION=bad")...)
	shop.more(others, 100)
	report = others.Stop()
	nothingLost(t, report)
	onlyFrom(t, report, "g3")

	// In place the service goes back.
	single := shop.other(t, "single")
	in := []string{"SYSTEMD_CLUSTER_MODE=0", "PORT=8081", "SYSTEMD_CLUSTER_WATCH_SEC=0"}
	single.deploy(in...)
	single.fails("accepts nothing, in place", "single.service was not ready after 3 s: it listens on 127.0.0.1:8081, but has not accepted the connection that was made to it; generation 1 serves again",
		append(in, append(py, "ACCEPTS=0")...)...)
}
