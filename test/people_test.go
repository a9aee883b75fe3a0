//go:build story

package test

import (
	"context"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"app-rollout/test/machine"
)

// canary is a secret: no command, log or page may show it.
const canary = "c4n4ryS3cret"

// person types commands on a machine and remembers all that was shown.
type person struct {
	*app
	shown strings.Builder
}

// types runs a shell command line, as root, and returns what it shows.
func (p *person) types(line string, status int) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	r := p.Run(ctx, "sh", "-c", line)
	out := r.Out + "\n" + r.Err
	p.shown.WriteString(out)
	p.t.Logf("# %s\n%s", line, out)
	if r.Code != status {
		p.t.Errorf("%s: status %d, want %d", line, r.Code, status)
	}
	return out
}

// onTerminal runs a command line on a pseudo-terminal, 80 columns wide. Nothing that it
// prints may be wider.
func (p *person) onTerminal(line string, status int) string {
	p.t.Helper()
	screen := p.types("TERM=xterm script --quiet --return --command 'stty cols 80; "+line+"' /dev/null", status)
	for row := range strings.Lines(screen) {
		if row = strings.TrimRight(unseen.ReplaceAllString(row, ""), "\r\n"); utf8.RuneCountInString(row) > 80 {
			p.t.Errorf("wider than 80 columns: %q", row)
		}
	}
	return screen
}

// unseen are the sequences that a terminal does not show.
var unseen = regexp.MustCompile(`\x1b\[[0-9;]*[mAJ]`)

// reads checks that a screen says all of this.
func (p *person) reads(screen string, parts ...string) {
	p.t.Helper()
	for _, part := range parts {
		if !strings.Contains(screen, part) {
			p.t.Errorf("it does not say %q:\n%s", part, screen)
		}
	}
}

func newPerson(t *testing.T, on ...machine.Options) *person {
	return &person{app: newShop(t, on...)}
}

// TestNewUser does what somebody does who has read the README: deploy, break the next
// deploy on purpose, see from the output alone what happened, mend it, roll back.
// Nothing is lost.
func TestNewUser(t *testing.T) {
	onEachRelease(t, func(t *testing.T, on machine.Options) {
		p := newPerson(t, on)
		p.reads(p.types("app-rollout status", 0), "There are no apps")
		p.types(`mkdir -p /srv/shop
cat >/srv/shop/.env <<'END'
SYSTEMD_CLUSTER_MODE=1
SYSTEMD_CLUSTER_WATCH_SEC=1
SYSTEMD_EXEC_START=/opt/apps/server
PORT=8080
GENERATION=one
PASSWORD='`+canary+`'
END
ln -s /srv/shop/.env /etc/app-rollout/shop.env`, 0)
		if said := p.types("app-rollout check", 0); strings.Contains(said, "port-sharing") || strings.Contains(said, "tcp_migrate_req") {
			t.Errorf("it warns of what the first run puts right:\n%s", said)
		}
		p.reads(p.types("app-rollout show shop", 0), "start shop@1 shop@2", "no generation has been ready yet", "ExecStart=/opt/apps/server")
		p.types("systemctl start app-rollout.service", 0)
		p.reads(p.types("app-rollout status", 0), "2 of 2 instances are up", "port 8080", "asks for what runs", "shop@1", "50 %")

		if said := p.types("app-rollout check /srv/shop/.env", 0); strings.Contains(said, "is taken by") {
			t.Errorf("the app is in the way of its own file:\n%s", said)
		}

		client := p.clients(2, 10*time.Millisecond)
		p.types("sed -i s/one/two/ /srv/shop/.env; echo EXIT_AT_START=3 >>/srv/shop/.env", 0)
		p.reads(p.types("app-rollout status", 0), "changed: EXIT_AT_START, GENERATION; the next run rolls it out")
		p.reads(p.types("app-rollout show shop", 0), "A run of shop would roll out generation 2: start shop@3 shop@4", "drain shop@1 shop@2")

		failed := p.types("app-rollout run shop", 1)
		p.reads(failed, "exited with status 3", "generation 1 still serves", "app-rollout run shop")
		// The command that the error names works as it stands.
		look := regexp.MustCompile(`journalctl -b -u \S+\.service`).FindString(failed)
		p.reads(p.types(look, 0), "exiting, as asked")
		p.reads(p.types("app-rollout status", 0), "2 of 2 instances are up", "was rejected as generation 2", "EXIT_AT_START", "exited with status 3", "shop@1")
		p.reads(p.types("systemctl status app-rollout@shop.service", 3), `Status: "shop: shop@`, "generation 1 still serves")
		p.reads(p.types("app-rollout check", 0), "asks for what failed as generation 2")
		live := p.onTerminal("app-rollout run shop", 1)
		p.reads(live, "✗", "the last it logged (shop@", "exiting, as asked", "generation 1 still serves")

		p.types("sed -i /EXIT_AT_START/d /srv/shop/.env", 0)
		p.reads(p.onTerminal("app-rollout run shop", 0), "✓", "generation 4 serves", "of 2 listen")
		p.reads(p.onTerminal("app-rollout restart shop", 0), "✓", "generation 4 serves: restarted in", "traffic steered")
		p.reads(p.types("app-rollout history shop", 0), "ready (current)", "failed", "EXIT_AT_START, GENERATION")
		p.reads(p.onTerminal("app-rollout status; app-rollout check; app-rollout history shop; app-rollout logs shop; app-rollout --help", 0), "●", "no errors", "ready (current)", "exiting, as asked")
		p.reads(p.types("app-rollout rollback shop", 0), "what comes back: GENERATION; the code does not come back: it is what lies in /srv/shop now", "generation 5 is the current one")
		p.reads(p.types("app-rollout status", 0), "held:", "changed: GENERATION; not rolled out while it is held")
		p.reads(p.types("app-rollout run", 0), "is held on generation 5")
		nothingLost(t, client.Stop())
		p.types("app-rollout status --json; app-rollout check shop --json; journalctl -b APP_ROLLOUT_APP=shop", 0)
		if strings.Contains(p.shown.String(), canary) {
			t.Errorf("the secret was shown")
		}
	})
}

// TestFailureShown: what an instance logged before it failed, as a person sees it
// on a terminal of 80 columns, has the cause in it. Node's stands above a long
// stack, Python's below one.
func TestFailureShown(t *testing.T) {
	t.Parallel()
	p := newPerson(t, machine.Options{Layers: []string{machine.Node(t)}})
	p.Write("/srv/shop/server.js", "const express = require('express');\nexpress().listen(8080);\n", 0o644)
	p.Write("/srv/shop/server.py", `def connect(attempts):
    if attempts > 0:
        return connect(attempts - 1)
    raise RuntimeError("DATABASE_URL is not set")


connect(20)
`, 0o644)
	for command, reads := range map[string][]string{
		"/usr/local/bin/node /srv/shop/server.js": {"│ Error: Cannot find module 'express'", "lines of the trace"},
		"/usr/bin/python3 /srv/shop/server.py":    {"│ Traceback (most recent call last)", "│ RuntimeError: DATABASE_URL is not set"},
	} {
		p.Write("/etc/app-rollout/shop.env", "SYSTEMD_CLUSTER_MODE=1\nPORT=8080\nSYSTEMD_EXEC_START="+command+"\n", 0o644)
		shown := unseen.ReplaceAllString(p.onTerminal("app-rollout run shop", 1), "")
		p.reads(shown, reads...)
	}
}

// TestInterrupt: Ctrl-C before the commit makes the rollout go back; after the commit
// the rollout is finished. The command says so, and nothing is lost.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	p.write("SYSTEMD_CLUSTER_WATCH_SEC=0", "SYSTEMD_CLUSTER_DRAIN_SEC=20")
	p.types("app-rollout run shop", 0)
	p.want("shop@1 shop@2")
	p.write("SYSTEMD_CLUSTER_WATCH_SEC=5", "SYSTEMD_CLUSTER_DRAIN_SEC=20")

	// interrupt sends the signal when the output has a word.
	const interrupt = `app-rollout run shop >/tmp/out 2>&1 & pid=$!
until grep -q %WORD% /tmp/out; do sleep 0.05; done
kill -INT $pid; wait $pid; status=$?; cat /tmp/out; exit $status`
	before := strings.ReplaceAll(interrupt, "%WORD%", "watching")
	p.reads(p.types(before, 1), "interrupted: what is not committed goes back", "the rollout was interrupted", "generation 1 still serves", "to begin anew: app-rollout run shop")
	p.want("shop@1 shop@2")

	p.write("SYSTEMD_CLUSTER_WATCH_SEC=0", "SYSTEMD_CLUSTER_DRAIN_SEC=20")
	slow := make(chan machine.Result, 1)
	go func() {
		slow <- p.Run(context.Background(), "python3", "-c", "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:8080/?delay=5s').status)")
	}()
	p.Wait("the slow request", 5*time.Second, func() bool {
		return strings.Contains(p.Sh("app-rollout status shop --json"), `"connections": 1`)
	})
	after := strings.ReplaceAll(interrupt, "%WORD%", "'waiting for 1 connection'")
	p.reads(p.types(after, 0), "it is committed already, and is finished", "0 cut")
	if r := <-slow; r.Out != "200" {
		t.Errorf("the slow request: %+v", r)
	}
	p.want("shop@5 shop@6")
}

// TestOrdinaryUser: a user without rights is told what can be seen, what cannot be
// seen, and why, and can change nothing.
func TestOrdinaryUser(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	p.Write("/etc/app-rollout/shop.env", env("PASSWORD='"+canary+"'"), 0o600)
	p.types("app-rollout run", 0)
	const as = "setpriv --reuid=nobody --regid=nogroup --clear-groups app-rollout "
	p.reads(p.types(as+"status", 0), "2 of 2 instances are up", "shop@1", "only root can see them; try sudo", "only root and its owner can read it")
	var report struct {
		Version int
		Apps    []struct {
			Generation any
			Asked      struct{ State string }
			Hidden     []struct{ What, Text, Remedy string }
			Instances  []struct{ Generation int }
		}
	}
	if err := json.Unmarshal([]byte(p.types(as+"status --json", 0)), &report); err != nil {
		t.Fatal(err)
	}
	if a := report.Apps[0]; report.Version != 2 || a.Generation != nil || a.Asked.State != "hidden" || len(a.Hidden) != 2 || a.Instances[0].Generation != 1 {
		t.Errorf("%+v", report)
	} else {
		for _, h := range a.Hidden {
			if h.What == "" || h.Text == "" || h.Remedy != "try sudo" {
				t.Errorf("%+v", h)
			}
		}
	}
	p.reads(p.types(as+"check", 1), "shop.env", "try sudo")
	p.types("chmod 644 /etc/app-rollout/shop.env; app-rollout check", 0)
	p.reads(p.types(as+"check", 1), "shop: what a run would do cannot be told: only root can see the generations; try sudo", "only root can; try sudo")
	p.types("chmod 600 /etc/app-rollout/shop.env", 0)
	p.reads(p.types(as+"history shop", 1), "only root can see the generations; try sudo")
	p.reads(p.types(as+"show shop", 1), "shop.env: cannot be read: permission denied; try sudo")
	for _, command := range []string{"run", "rollback shop", "swap"} {
		p.reads(p.types(as+command, 1), "only root can do that; try sudo")
	}
	p.types("chown -R nobody: /var/lib/app-rollout/shop", 0)
	denied := p.types("app-rollout run shop", 1)
	p.reads(denied, "shop: /var/lib/app-rollout/shop: does not belong to root, and cannot be written; chown -R root: /var/lib/app-rollout/shop; when that is mended: app-rollout run shop")
	p.types(regexp.MustCompile(`chown -R [^;]*`).FindString(denied)+"; app-rollout run shop", 0)
	if strings.Contains(p.shown.String(), canary) {
		t.Errorf("the secret was shown")
	}
}

// TestDoctor: check says who has the port, and what a reboot will take away.
func TestDoctor(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	p.types("systemd-run --unit=squatter /usr/bin/python3 -m http.server 8080", 0)
	p.types("mkdir -p /run/shop /mnt/disk; mount -t ramfs none /mnt/disk; cp /bin/true /mnt/disk/true", 0)
	p.Write("/run/shop/.env", env("SYSTEMD_TIMEOUT_STOP_SEC=5s", "SYSTEMD_WORKING_DIRECTORY=/mnt/disk"), 0o644)
	p.types("ln -s /run/shop/.env /etc/app-rollout/shop.env", 0)
	p.Wait("the squatter", 10*time.Second, func() bool {
		return strings.Contains(p.Sh("app-rollout check || true"), "is taken by squatter on 0.0.0.0:8080")
	})
	p.reads(p.types("app-rollout check", 0), "is taken by squatter", "/run is a tmpfs", "/mnt/disk is a ramfs", "SYSTEMD_TIMEOUT_STOP_SEC (5 s) is shorter")
	p.reads(p.types("app-rollout check ./nowhere.env", 1), "nowhere.env")
	p.types("echo FOO=bar >/etc/app-rollout/Shop.env; app-rollout check", 1)
}
