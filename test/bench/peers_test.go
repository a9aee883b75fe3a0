//go:build bench

package bench

import (
	"fmt"
	"strings"
)

// peer is one way to deploy. Its scripts run in the machine. GENERATION, STOP
// and BAD of the app are in /etc/bench/env, written before each start and deploy.
type peer struct {
	name string
	// start starts the first generation. deploy, which gets a count from 1 on,
	// deploys a new one in the best way that is known for this tool. stop ends
	// everything.
	start  string
	deploy func(n int) string
	stop   string
	// enable arranges, in the tool's usual way, that the boot starts what the n-th
	// deploy has left. It is "" if the tool does so by itself.
	enable func(n int) string
	// tool matches the command lines of the tool's own processes: a pattern for
	// pgrep that does not match itself, "" if none run between deploys.
	tool string
	// graceful says that only graceful deploys are measured: the peer does not run the
	// Node app, which can be told to die.
	graceful bool
	// baseline is the swap by hand, and variant the same with something added.
	// Between deploys, and in a bad deploy, the two do not differ.
	baseline, variant bool
	// sysctl of net.ipv4.tcp_migrate_req.
	migrate int
	ours    bool
}

// ports are those of a deploy's two instances behind a proxy. Deploys take turns with
// two pairs.
func ports(n int) (int, int) { return 9001 + 2*(n%2), 9002 + 2*(n%2) }

// pair starts the two instances behind a proxy and waits until both listen.
func pair(n int) string {
	a, b := ports(n)
	return startPair(a, b)
}

func startPair(a, b int) string {
	return release(a, b) + fmt.Sprintf("systemctl start node@%d node@%d\n", a, b) +
		fmt.Sprintf("until [ $(ss -Hltn 'sport = :%d or sport = :%d' | wc -l) = 2 ]; do sleep 0.02; done\n", a, b)
}

// release gives instances an environment that stays the same as long as they live,
// whoever boots them, as a release's directory or an image does.
func release(instances ...int) string {
	var b strings.Builder
	for _, i := range instances {
		fmt.Fprintf(&b, "cp /etc/bench/env /etc/bench/env-%d\n", i)
	}
	return b.String()
}

// enablePair lets the boot start these services and the n-th pair.
func enablePair(service string) func(n int) string {
	return func(n int) string {
		a, b := ports(n)
		return fmt.Sprintf("systemctl enable %s node@%d node@%d\n", service, a, b)
	}
}

// unpair stops the two instances of the deploy before.
func unpair(n int) string {
	a, b := ports(n + 1)
	return fmt.Sprintf("systemctl stop node@%d node@%d\n", a, b)
}

var unitFiles = map[string]string{
	"/etc/systemd/system/node@.service": `[Unit]
StartLimitIntervalSec=0
[Service]
Environment=PORT=%i INSTANCE=%i
EnvironmentFile=/etc/bench/env-%i
ExecStart=/usr/local/bin/node /opt/bench/app.js
Restart=always
RestartSec=1s
[Install]
WantedBy=multi-user.target
`,
	"/etc/systemd/system/plain@.service": `[Unit]
StartLimitIntervalSec=0
[Service]
Environment=PORT=8080 REUSEPORT=1 INSTANCE=%i
EnvironmentFile=/etc/bench/env-%i
ExecStart=/usr/local/bin/node /opt/bench/app.js
Restart=always
RestartSec=1s
[Install]
WantedBy=multi-user.target
`,
	"/etc/systemd/system/gunicorn.service": `[Service]
Type=notify
EnvironmentFile=/etc/bench/env
WorkingDirectory=/opt/apps
ExecStart=/usr/bin/gunicorn -b 127.0.0.1:8080 -w 2 -k gthread --threads 8 --keep-alive 30 wsgi:app
ExecReload=/bin/kill -HUP $MAINPID
KillMode=mixed
`,
	"/etc/systemd/system/proxy-nginx.service": `[Service]
Type=forking
PIDFile=/run/proxy-nginx.pid
ExecStart=/usr/sbin/nginx -c /etc/bench/nginx.conf
ExecReload=/usr/sbin/nginx -c /etc/bench/nginx.conf -s reload
KillMode=mixed
[Install]
WantedBy=multi-user.target
`,
	"/etc/systemd/system/proxy-haproxy.service": `[Service]
Type=notify
ExecStart=/usr/sbin/haproxy -Ws -f /etc/bench/haproxy.cfg
ExecReload=/bin/kill -USR2 $MAINPID
KillMode=mixed
[Install]
WantedBy=multi-user.target
`,
	"/etc/systemd/system/proxy-kamal.service": `[Service]
Environment=HOME=/root XDG_RUNTIME_DIR=/run
ExecStart=/usr/local/bin/kamal-proxy run --http-port 8080 --https-port 8443
StandardOutput=null
[Install]
WantedBy=multi-user.target
`,
	// As "pm2 startup" writes it.
	"/etc/systemd/system/pm2-root.service": `[Unit]
After=network.target
[Service]
Type=forking
Environment=PM2_HOME=/var/lib/pm2
PIDFile=/var/lib/pm2/pm2.pid
Restart=on-failure
ExecStart=/usr/local/bin/node /opt/pm2/node_modules/pm2/bin/pm2 resurrect
ExecStop=/usr/local/bin/node /opt/pm2/node_modules/pm2/bin/pm2 kill
[Install]
WantedBy=multi-user.target
`,
	"/etc/bench/env": "GENERATION=g0\n",
	"/etc/bench/nginx.template": `worker_processes 2;
pid /run/proxy-nginx.pid;
error_log /dev/null;
worker_shutdown_timeout 30s;
events { worker_connections 1024; }
http {
	access_log off;
	upstream app { server 127.0.0.1:PORT_A; server 127.0.0.1:PORT_B; keepalive 32; }
	server {
		listen 127.0.0.1:8080;
		location / { proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; }
	}
}
`,
	"/etc/bench/haproxy.template": `defaults
	mode http
	timeout connect 2s
	timeout client 30s
	timeout server 30s
	retries 3
	option redispatch
	retry-on conn-failure empty-response
frontend users
	bind 127.0.0.1:8080
	default_backend app
backend app
	option httpchk GET /
	http-reuse safe
	server a 127.0.0.1:PORT_A check inter 500ms
	server b 127.0.0.1:PORT_B check inter 500ms
`,
	"/etc/bench/pm2.config.js": `module.exports = { apps: [{
	name: "shop", script: "/opt/bench/app.js", interpreter: "/usr/local/bin/node", exec_mode: "cluster", instances: 2,
	wait_ready: true, listen_timeout: 10000, kill_timeout: 10000, autorestart: true,
	out_file: "/dev/null", error_file: "/dev/null",
}] };
`,
}

// replaceWorkers reloads a service and waits until its old workers are gone. Until
// then they still use the old instances.
func replaceWorkers(unit string) string {
	return "old=$(pgrep -P $(systemctl show --value -p MainPID " + unit + "))\nsystemctl reload " + unit +
		"\nfor p in $old; do while kill -0 $p 2>/dev/null; do sleep 0.02; done; done\n"
}

const pm2 = "export PM2_HOME=/var/lib/pm2 PORT=8080; set -a; . /etc/bench/env; set +a\n/usr/local/bin/node /opt/pm2/node_modules/pm2/bin/pm2 "

func configure(proxy, file string, n int) string {
	a, b := ports(n)
	return fmt.Sprintf("sed 's/PORT_A/%d/; s/PORT_B/%d/' /etc/bench/%s.template >%s\n", a, b, proxy, file)
}

// peers are all peers that can be measured here.
func (b *bed) list() []*peer {
	all := []*peer{
		{
			name: "app-rollout", ours: true, migrate: 1,
			start:  ourEnv + "systemctl start app-rollout.service\n",
			deploy: func(int) string { return ourEnv + "systemctl start app-rollout@shop.service\n" },
			stop:   "rm /etc/app-rollout/shop.env; systemctl start app-rollout.service\n",
		},
		plainSwap("plain swap", 0),
		plainSwap("plain swap, tcp_migrate_req=1", 1),
		{
			name:   "PM2 reload",
			start:  pm2 + "start /etc/bench/pm2.config.js\n",
			deploy: func(int) string { return pm2 + "reload /etc/bench/pm2.config.js --update-env\n" },
			stop:   pm2 + "kill\nsystemctl stop pm2-root\nsystemctl disable pm2-root\n",
			enable: func(int) string { return pm2 + "save\nsystemctl enable pm2-root\n" },
			tool:   "[G]od Daemon",
		},
		{
			name:  "nginx, upstream switched",
			start: pair(0) + configure("nginx", "/etc/bench/nginx.conf", 0) + "systemctl start proxy-nginx\n",
			deploy: func(n int) string {
				return pair(n) + configure("nginx", "/etc/bench/nginx.conf", n) + replaceWorkers("proxy-nginx") + unpair(n)
			},
			stop:   stopPairs("proxy-nginx"),
			enable: enablePair("proxy-nginx"),
			tool:   "[n]ginx: (master|worker)",
		},
		{
			name:  "HAProxy reload",
			start: pair(0) + configure("haproxy", "/etc/bench/haproxy.cfg", 0) + "systemctl start proxy-haproxy\n",
			deploy: func(n int) string {
				return pair(n) + configure("haproxy", "/etc/bench/haproxy.cfg", n) + replaceWorkers("proxy-haproxy") + unpair(n)
			},
			stop:   stopPairs("proxy-haproxy"),
			enable: enablePair("proxy-haproxy"),
			tool:   "[h]aproxy -",
		},
	}
	if b.kamal {
		all = append(all, kamalPeer())
	}
	return append(all, &peer{
		name: "gunicorn HUP (a Python app)", graceful: true,
		start: "systemctl start gunicorn\n",
		deploy: func(int) string {
			return replaceWorkers("gunicorn")
		},
		stop: "systemctl stop gunicorn\n",
	})
}

// plainSwap starts the new instances, and stops the old ones when the new ones
// listen. migrate is the value of net.ipv4.tcp_migrate_req.
func plainSwap(name string, migrate int) *peer {
	return &peer{
		name: name, migrate: migrate, baseline: migrate == 0, variant: migrate == 1,
		start: release(1, 2) + "systemctl start plain@1 plain@2\n",
		deploy: func(n int) string {
			return release(2*n+1, 2*n+2) + fmt.Sprintf(`systemctl start plain@%d plain@%d
					until [ $(ss -Hltn 'sport = :8080' | wc -l) = 4 ]; do sleep 0.02; done
					systemctl stop plain@%d plain@%d`, 2*n+1, 2*n+2, 2*n-1, 2*n)
		},
		stop:   "systemctl stop 'plain@*'; rm -f /etc/systemd/system/multi-user.target.wants/plain@*\n",
		enable: func(n int) string { return fmt.Sprintf("systemctl enable plain@%d plain@%d\n", 2*n+1, 2*n+2) },
	}
}

func kamalPeer() *peer {
	kamal := func(n int) string {
		x, y := ports(n)
		return fmt.Sprintf("XDG_RUNTIME_DIR=/run HOME=/root kamal-proxy deploy shop --target 127.0.0.1:%d --target 127.0.0.1:%d --health-check-path / --health-check-interval 100ms --deploy-timeout 10s\n", x, y)
	}
	return &peer{
		name:  "kamal-proxy deploy",
		start: pair(0) + "systemctl start proxy-kamal\nuntil ss -Hltn 'sport = :8080' | grep -q .; do sleep 0.02; done\n" + kamal(0),
		// A deploy that the proxy refuses is stopped, as Kamal does it.
		deploy: func(n int) string {
			return pair(n) + "if " + strings.TrimSpace(kamal(n)) + "; then\n" + unpair(n) + "else\n" + unpair(n+1) + "exit 1\nfi\n"
		},
		stop:   stopPairs("proxy-kamal"),
		enable: enablePair("proxy-kamal"),
		tool:   "[k]amal-proxy run",
	}
}

// stopPairs ends a proxy and what is behind it, and starts neither at boot.
func stopPairs(service string) string {
	return "systemctl stop " + service + " 'node@*'\ncd /etc/systemd/system/multi-user.target.wants\nrm -f " + service + ".service node@*\n"
}

// ourEnv makes the app's .env from the environment that every peer gets.
var ourEnv = strings.Join([]string{
	"{ cat /etc/bench/env; cat <<'ENV'",
	"SYSTEMD_CLUSTER_MODE=1",
	"SYSTEMD_CLUSTER_NODES=2",
	// The others do not watch what they deployed.
	"SYSTEMD_CLUSTER_WATCH_SEC=0",
	"SYSTEMD_CLUSTER_HEALTH_PATH=/",
	`SYSTEMD_EXEC_START="/usr/local/bin/node /opt/bench/app.js"`,
	"PORT=8080",
	"ENV",
	"} >/etc/app-rollout/shop.env",
	"",
}, "\n")
