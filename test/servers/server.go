// Package servers has the real web servers that the stories roll out, and what
// clients saw of them.
package servers

import (
	"embed"
	"slices"
	"strconv"
	"strings"
)

// A Server is one real web server as an app. In its settings {g} stands for the
// generation ("g1", "g2", …), with which every answer begins.
type Server struct {
	Name     string
	Packages string   // of Debian, with spaces between; those of machine.Base are there
	Exec     string   // SYSTEMD_EXEC_START
	Env      []string // further lines of its .env; what it needs lifted of the hardening, too
	Keeps    Keeping  // what it does with connections that clients keep
	Template string   // a file of templates/, which each generation has as /opt/apps/{g}/<Template>
}

// Keeping is what a server does with connections that clients keep.
type Keeping int

// The kinds.
const (
	Tells  Keeping = iota // its answers can tell clients to close
	Silent                // its answers have no line that can be given up for that; of Puma, those of Rails do: X-Runtime
	Never                 // it closes after each answer, and does not say so
)

// All are what people run, on their own stop signals (SERVERS.md says what they do
// at them). A new server is a line here;
// files that it reads lie in test/apps, which is /opt/apps in the machine.
var All = []Server{
	{Name: "gunicorn-sync", Exec: "/usr/bin/gunicorn --chdir /opt/apps --reuse-port -b 127.0.0.1:8080 -w 2 wsgi:app"},
	{Name: "gunicorn-gthread", Exec: "/usr/bin/gunicorn --chdir /opt/apps --reuse-port -b 127.0.0.1:8080 -w 1 -k gthread --threads 8 wsgi:app"},
	{Name: "uwsgi", Packages: "uwsgi uwsgi-plugin-python3", Exec: "/usr/bin/uwsgi --plugin python3 --http-socket 127.0.0.1:8080 --reuse-port --master --die-on-term -p 2 --disable-logging --wsgi-file /opt/apps/wsgi.py", Keeps: Never},
	{Name: "unicorn", Packages: "unicorn", Exec: "/usr/bin/unicorn -E deployment -c /opt/apps/unicorn.rb /opt/apps/config.ru"},
	{Name: "nginx", Packages: "nginx-light", Exec: "/usr/sbin/nginx -c /opt/apps/{g}/nginx.conf", Template: "nginx.conf"},
	{Name: "haproxy", Packages: "haproxy", Exec: "/usr/sbin/haproxy -Ws -f /opt/apps/haproxy.cfg", Env: []string{"SYSTEMD_TYPE=notify"}, Keeps: Silent},
	{Name: "caddy", Packages: "caddy", Exec: "/usr/bin/caddy run --config /opt/apps/Caddyfile --adapter caddyfile", Env: []string{"SYSTEMD_TYPE=notify", "HOME=/tmp"}},
	{Name: "node", Exec: "/usr/local/bin/node /opt/apps/server.js"},
	{Name: "bun", Exec: "/usr/local/bin/bun run /opt/apps/bun.js"},

	// These never ask for SO_REUSEPORT: a second copy would not start by itself.
	{Name: "uvicorn", Packages: "uvicorn", Exec: "/usr/bin/uvicorn --app-dir /opt/apps --host 127.0.0.1 --port 8080 --no-access-log asgi:app"},
	{Name: "puma", Packages: "puma", Exec: "/usr/bin/puma -e production -b tcp://127.0.0.1:8080 /opt/apps/config.ru", Keeps: Silent},
	{Name: "hypercorn", Packages: "python3-hypercorn", Exec: "/usr/bin/hypercorn -w 1 -b 127.0.0.1:8080 asgi:app", Env: []string{"SYSTEMD_WORKING_DIRECTORY=/opt/apps"}, Keeps: Never},
	{Name: "http-server", Exec: "/usr/bin/python3 -m http.server --bind 127.0.0.1 --directory /opt/apps/{g} 8080", Template: "index.html"},
	{Name: "node-plain", Exec: "/usr/local/bin/node /opt/apps/server.js", Env: []string{"NO_REUSEPORT=1"}},
	{Name: "go", Exec: "/opt/apps/server"},
	{Name: "go-dies-at-term", Exec: "/opt/apps/server", Env: []string{"STOP=die"}},
	{Name: "go-sigkill", Exec: "/opt/apps/server", Env: []string{"SYSTEMD_KILL_SIGNAL=SIGKILL"}},
}

// Packages are those of all servers, of the clients that ask them, and of an app that has
// a database to migrate.
func Packages() []string {
	packages := []string{
		"ruby", "wrk", "ethtool", "nftables", "curl", "default-jre-headless",
		"python3-aiohttp", "python3-django", "python3-httpx", "python3-requests",
	}
	for _, s := range All {
		packages = append(packages, strings.Fields(s.Packages)...)
	}
	slices.Sort(packages)
	return slices.Compact(packages)
}

// App is the server's name as an app's: that of an installed unit is refused.
func (s Server) App() string { return "my-" + s.Name }

// EnvFile is the text of the .env of one of the server's generations; later lines win.
// The first one has no health path: it is enough that it accepts a connection.
func (s Server) EnvFile(generation int, lines ...string) string {
	all := []string{
		"SYSTEMD_CLUSTER_MODE=1", "SYSTEMD_CLUSTER_NODES=2", "SYSTEMD_CLUSTER_WATCH_SEC=0",
		"PORT=8080", "GENERATION={g}", "SYSTEMD_EXEC_START=" + s.Exec,
	}
	if generation > 1 {
		all = append(all, "SYSTEMD_CLUSTER_HEALTH_PATH=/")
	}
	return put(generation, strings.Join(slices.Concat(all, s.Env, lines), "\n")+"\n")
}

//go:embed templates
var templates embed.FS

// File is what one of the server's generations needs beside its .env: "" if nothing.
func (s Server) File(generation int) (path, text string) {
	if s.Template == "" {
		return "", ""
	}
	template, err := templates.ReadFile("templates/" + s.Template)
	if err != nil {
		panic(err) // Template is a name in the table above
	}
	return put(generation, "/opt/apps/{g}/"+s.Template), put(generation, string(template))
}

// put writes a generation's name for {g}.
func put(generation int, text string) string {
	return strings.ReplaceAll(text, "{g}", "g"+strconv.Itoa(generation))
}
