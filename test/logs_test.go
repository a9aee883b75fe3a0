//go:build story

package test

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"app-rollout/test/machine"
)

// talker is an app that says when it is up.
const talker = `import http.server, os, socket

class Server(http.server.ThreadingHTTPServer):
    def server_bind(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()

print("up,", os.environ["GENERATION"], flush=True)
Server(("127.0.0.1", int(os.environ["PORT"])), http.server.SimpleHTTPRequestHandler).serve_forever()
`

// newTalkers boots a machine with two apps that talk, blog and my-shop, and the users
// joe, who may not read the journal, and ann, who may.
func newTalkers(t *testing.T, on machine.Options) (shop, blog *app) {
	on.Files = map[string]string{"/opt/talker.py": talker}
	shop = newShop(t, on).other(t, "my-shop")
	blog = shop.other(t, "blog")
	shop.write(talks("8080", "first")...)
	blog.write(talks("8081", "other")...)
	shop.Sh("useradd --create-home joe; useradd --groups systemd-journal ann")
	return shop, blog
}

// talks is what an .env has for a talker. It is in a slice of its own, because it
// shares its port itself.
func talks(port, generation string) []string {
	return []string{
		"SYSTEMD_CLUSTER_WATCH_SEC=0", "SYSTEMD_CLUSTER_REUSE_PORT=0", "SYSTEMD_RESTART_SEC=100ms",
		"SYSTEMD_EXEC_START=/usr/bin/python3 /opt/talker.py", "PORT=" + port, "GENERATION=" + generation,
	}
}

// A follower is a command that goes on, and what it has printed so far.
type follower struct {
	*app
	mu   sync.Mutex
	text bytes.Buffer
	stop func()
}

func (f *follower) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.text.Write(b)
}

func (f *follower) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.text.String()
}

// follow starts a command that goes on until it is stopped.
func (a *app) follow(name string, args ...string) *follower {
	a.t.Helper()
	f := &follower{app: a}
	ctx, cancel := context.WithCancel(context.Background())
	cmd, done, err := a.Command(ctx, name, args...)
	if err != nil {
		a.t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = f, f
	if err := cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	f.stop = sync.OnceFunc(func() { cancel(); cmd.Wait(); done() })
	a.t.Cleanup(f.stop)
	return f
}

// reads waits until the command has printed these parts, in this order.
func (f *follower) reads(what string, parts ...string) {
	f.t.Helper()
	begin := time.Now()
	end := begin.Add(30 * time.Second)
	for silent := true; ; {
		shown, found := f.String(), true
		for rest, i := shown, 0; found && i < len(parts); i++ {
			_, rest, found = strings.Cut(rest, parts[i])
		}
		if found {
			return
		}
		if time.Now().After(end) {
			f.t.Fatalf("%s: %q is not in\n%s", what, parts, shown)
		}
		// The journalctl of Debian 12 was seen to withhold the last records of a journal
		// that nobody wrote to any more, until there was one more.
		if silent && time.Since(begin) > 10*time.Second {
			silent = false
			f.t.Logf("%s: not shown for 10 s; writing one more record", what)
			f.Sh("echo one more | systemd-cat")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestLogs follows what an app's instances and rollouts log across deploys, crashes and
// generations that 0.1.0 froze. What other users write in the app's name is not shown.
func TestLogs(t *testing.T) {
	onEachRelease(t, func(t *testing.T, on machine.Options) {
		shop, _ := newTalkers(t, on)
		rollOut(shop)
		// The unit of generation 1 is now as 0.1.0 froze it.
		shop.Sh("sed -i '/^SyslogIdentifier=/d; /^LogExtraFields=/d' /var/lib/app-rollout/my-shop/generations/1/unit")

		logs := shop.follow("app-rollout", "logs", "-f", "my-shop", "-n", "1000")
		logs.reads("what was logged before", " my-shop rollout: generation 1 is frozen\n", " my-shop@1: up, first\n", " my-shop rollout: generation 1 is the current one\n")
		shop.deploy(talks("8080", "second")...)
		logs.reads("a deploy", " my-shop rollout: generation 2 is frozen\n", " my-shop@3: up, second\n", " my-shop rollout: generation 2 is the current one\n", "my-shop rollout: done in")
		logs.reads("the other instance", " my-shop@4: up, second\n")
		shop.crash("my-shop@3.service")
		logs.reads("a crash", " my-shop@3 systemd: Main process exited, code=killed", " my-shop@3: up, second\n")
		shop.Must("app-rollout", "rollback", "my-shop")
		logs.reads("an instance of an old unit", "my-shop@3 systemd: ", "my-shop@5: up, first\n")
		logs.reads("another one", "my-shop@3 systemd: ", "my-shop@6: up, first\n")
		logs.reads("the rollback", "my-shop rollout: generation 3 is the current one\n")

		// Ctrl-C ends it quietly; a terminal sends that to the whole process group.
		said := shop.Sh(`setsid app-rollout logs -f my-shop >/tmp/said 2>&1 & pid=$!
until grep -q rollout: /tmp/said; do sleep 0.05; done
kill -s INT -- -$pid; wait $pid && echo 0 >>/tmp/said || echo $? >>/tmp/said; tail -n 1 /tmp/said; grep ^app-rollout: /tmp/said || true`)
		if said != "0" {
			t.Errorf("after Ctrl-C: %s", said)
		}

		shop.Sh(`printf '%s\n' MESSAGE=stolen APP_ROLLOUT_APP=my-shop SYSLOG_IDENTIFIER=my-shop _SYSTEMD_UNIT=my-shop@5.service UNIT=my-shop@5.service \
			APP_ROLLOUT_SERVICE=app-rollout.service PRIORITY=3 | runuser -u joe -- logger --journald`)
		shop.logged("stolen", "MESSAGE=stolen")
		shop.crash("my-shop@6.service")
		logs.reads("a crash afterwards", " my-shop@6 systemd: Main process exited, code=killed")
		for _, not := range []string{"stolen", "blog", "other"} {
			if strings.Contains(logs.String(), not) {
				t.Errorf("%q is not the app's:\n%s", not, logs.String())
			}
		}
		if got := shop.Must("journalctl", "-q", "-o", "short", "--lines=1", "_SYSTEMD_UNIT=my-shop@3.service"); !strings.Contains(got, " my-shop[") {
			t.Errorf("the line does not carry the app's name: %s", got)
		}
	})
}

// TestLogsLater finds what was logged before a reboot, and shows to each user what that
// user may see.
func TestLogsLater(t *testing.T) {
	onEachRelease(t, func(t *testing.T, on machine.Options) {
		shop, blog := newTalkers(t, on)
		rollOut(shop)
		before := shop.Must("app-rollout", "logs", "my-shop")
		shop.crash("my-shop@2.service")
		shop.Reboot()
		shop.booted()
		after := shop.Must("app-rollout", "logs", "-n", "1000", "my-shop")
		if !strings.HasPrefix(after, before) || !strings.Contains(after, "my-shop@2 systemd: Main process exited") || strings.Count(after, " my-shop@1: up, first") != 2 {
			t.Errorf("before the reboot:\n%s\nafter it:\n%s", before, after)
		}
		if last := shop.Must("app-rollout", "logs", "my-shop", "-n", "3"); !strings.HasSuffix(after, last) || strings.Count(last, "\n") != 2 {
			t.Errorf("the last three lines:\n%s\nof\n%s", last, after)
		}
		if all := shop.Must("app-rollout", "logs", "-n", "1000"); !strings.Contains(all, "blog@1: up, other") || !strings.Contains(all, "my-shop@1: up, first") {
			t.Errorf("of all apps:\n%s", all)
		}

		as := func(user, app string) machine.Result {
			return shop.Run(context.Background(), "runuser", "-u", user, "--", "app-rollout", "logs", app)
		}
		if r := as("joe", "my-shop"); r.Code != 1 || r.Out != "" || !strings.Contains(r.Err, "the group systemd-journal") {
			t.Errorf("a user without rights: %+v", r)
		}
		if r := as("ann", "my-shop"); r.Code != 0 || r.Err != "" || !strings.Contains(r.Out, "my-shop@1: up, first") {
			t.Errorf("a user of the group: %+v", r)
		}
		shop.Sh("mkdir /home/joe/app; sed 's/8081/8082/; s/other/mine/' " + blog.path() + " >/home/joe/app/.env; chown -R joe: /home/joe; ln -s /home/joe/app/.env /etc/app-rollout/own.env")
		rollOut(shop, "own")
		shop.logged("up, mine", "_SYSTEMD_UNIT=own@1.service")
		if r := as("joe", "own"); r.Code != 0 || !strings.Contains(r.Out, "own@1: up, mine") || !strings.Contains(r.Err, "the group systemd-journal") {
			t.Errorf("a user's own app: %+v", r)
		}
	})
}
