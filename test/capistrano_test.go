//go:build story

package test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"app-rollout/test/load"
	"app-rollout/test/machine"
)

// capistranoServer writes where its links lead, before it serves.
const capistranoServer = `import http.server, os

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'release RELEASE\n'
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass

open('log/production.log', 'a').write('release RELEASE\n')
open('tmp/pids/server.pid', 'w').write(str(os.getpid()))
http.server.ThreadingHTTPServer(('127.0.0.1', 8080), Handler).serve_forever()
`

// capistranoDeploy makes a release as Capistrano does: with links to what outlives it.
// Its arguments are the release and the owner of all but what the app writes.
const capistranoDeploy = `set -eu
mkdir -p /srv/shop && cd /srv/shop
mkdir -p shared/log shared/tmp/pids shared/config releases/$1/tmp releases/$1/config
touch shared/config/database.yml
sed "s/RELEASE/$1/" /root/server.py >releases/$1/server.py
ln -sfn ../../shared/.env releases/$1/.env
ln -sfn ../../shared/log releases/$1/log
ln -sfn ../../../shared/tmp/pids releases/$1/tmp/pids
ln -sfn ../../../shared/config/database.yml releases/$1/config/database.yml
ln -sfn releases/$1 current
chown -hR $2: /srv/shop
chown -R deploy: shared/log shared/tmp/pids
`

// TestCapistrano: an app whose releases have links out of them runs after check was
// followed to the letter. It writes where its links lead, to move current and to run is
// a deploy, and the code of what runs stays what it was.
func TestCapistrano(t *testing.T) {
	t.Parallel()
	shop := newShop(t, machine.Options{Files: map[string]string{"/root/server.py": capistranoServer, "/root/deploy": capistranoDeploy}})
	shop.Sh("useradd --system deploy")
	for _, owner := range []string{"deploy", "root"} {
		t.Run(owner, func(t *testing.T) {
			p := &person{app: shop.other(t, "shop")}
			text := "SYSTEMD_CLUSTER_MODE=1\nSYSTEMD_CLUSTER_WATCH_SEC=0\nSYSTEMD_RESTART_SEC=1\nSYSTEMD_EXEC_START='/usr/bin/python3 server.py'\nPORT=8080\n"
			if owner == "root" {
				text += "SYSTEMD_USER=deploy\n"
			}
			p.Write("/srv/shop/shared/.env", text, 0o600)
			p.types("sh /root/deploy 1 "+owner+"; ln -s /srv/shop/current/.env /etc/app-rollout/shop.env", 0)
			if r := p.run(); r.Code == 0 {
				t.Fatalf("it runs without any advice:\n%s", r.Out)
			}
			p.followsCheck()
			p.types("app-rollout run shop", 0)
			p.serves("release 1")
			p.reads(p.types("cat /srv/shop/shared/log/production.log && test -s /srv/shop/shared/tmp/pids/server.pid", 0), "release 1")

			p.types("sh /root/deploy 2 "+owner, 0)
			p.crash(strings.Fields(p.instances())[0] + ".service")
			p.serves("release 1")
			p.types("app-rollout run shop", 0)
			p.serves("release 2")
			p.types("rm /etc/app-rollout/shop.env; app-rollout run && rm -rf /var/lib/app-rollout/shop /srv/shop", 0)
		})
	}
}

// What check advises on such a layout: a command, or a line of the .env.
var (
	advisedCommand = regexp.MustCompile(`move the \.env up, as deploy: (mv \S+ \S+ && ln -s \S+ [^\s;]+)`)
	advisedLine    = regexp.MustCompile(`set (SYSTEMD_\w+)=('[^']*'|\S+)`)
)

// followsCheck does what check advises on the layout, until it advises no more.
func (p *person) followsCheck() {
	p.t.Helper()
	for range 4 {
		screen := p.types("app-rollout check shop 2>&1 || true", 0)
		commands, lines := advisedCommand.FindAllStringSubmatch(screen, -1), advisedLine.FindAllStringSubmatch(screen, -1)
		if len(commands)+len(lines) == 0 {
			return
		}
		for _, m := range commands {
			p.types("runuser -u deploy -- sh -c '"+m[1]+"'", 0)
		}
		for _, m := range lines {
			p.types("env=$(readlink -f /etc/app-rollout/shop.env); sed -i /^"+m[1]+"=/d $env; cat >>$env <<'END'\n"+m[1]+"="+m[2]+"\nEND", 0)
		}
	}
	p.t.Error("the advice never ends")
}

// serves checks that every answer is this one.
func (p *person) serves(body string) {
	p.t.Helper()
	client := p.Load(load.Options{Addr: port, Workers: 2, Pause: 5 * time.Millisecond, Want: body})
	p.more(client, 20)
	if report := client.Stop(); report.Kinds[load.Wrong] > 0 {
		p.t.Errorf("not only %q is answered: %v", body, report)
	}
}
