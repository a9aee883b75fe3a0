//go:build story

package test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"app-rollout/units/store"
)

// hold is a client that makes one connection, speaks on it, writes that it has been
// answered, and then holds it until the server closes it.
const hold = `#!/usr/bin/python3
import socket, sys
name, path = sys.argv[1:]
c = socket.create_connection(("127.0.0.1", 8080))
upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
c.sendall(("GET %s HTTP/1.1\r\nHost: shop\r\n%s\r\n" % (path, upgrade if path.startswith("/ws") else "")).encode())
print(c.recv(4096), flush=True)
if path.startswith("/ws"):
    c.sendall(b"\x81\x82\x00\x00\x00\x00hi")
    print(c.recv(4096), flush=True)
open("/run/held-" + name, "w")
try:
    while c.recv(4096): pass
except OSError as e:
    print(e, flush=True)
open("/run/gone-" + name, "w")
`

// holds makes a connection that is held, and returns when it was answered.
func (a *app) holds(name, path string) {
	a.t.Helper()
	a.Must("systemd-run", "--collect", "--unit=hold-"+name, "/opt/hold", name, path)
	a.Wait(name, 20*time.Second, func() bool { return a.Exists("/run/held-" + name) })
}

// TestConnectionsCounted: a connection at rest that the stop closes, a WebSocket, a
// stream and an answer that does not come in time are each counted as what they are.
func TestConnectionsCounted(t *testing.T) {
	t.Parallel()
	shop := newShop(t)
	shop.Write("/opt/hold", hold, 0o755)
	lines := []string{"SYSTEMD_CLUSTER_DRAIN_SEC=3", "SYSTEMD_CLUSTER_WATCH_SEC=3"}
	const steps = "hold start ready shift watch commit drain stop forget"
	shop.deploy(append(lines, "STOP=die", "GENERATION=g1")...)
	long := shop.openRequest()
	shop.holds("kept", "/")
	shop.holds("websocket", "/ws")
	shop.holds("telling", "/ws?every=2s")
	shop.holds("events", "/events?every=2s")
	said := shop.deploy(append(lines, "GENERATION=g2")...)
	for _, line := range []string{
		"1 connection(s) of shop@1 shop@2 still wait for an answer after 3 s",
		"stopping shop@1 shop@2, which closes 2 connection(s) at rest",
	} {
		if !strings.Contains(said, line) {
			t.Errorf("nothing says %q:\n%s", line, said)
		}
	}
	long.answer()
	if one := long.client.Stop(); one.Lost() != 1 {
		t.Errorf("a request that is not answered in time: %v", one)
	}
	shop.counted(store.Counts{Closed: 2, Cut: 3, Streams: 2})
	shop.told(2, `done in [0-9.]+ s, traffic steered, 0 connections drained, 2 closed at rest, 3 cut \(streams: 2\)`, steps)
	for _, name := range []string{"kept", "websocket", "telling", "events"} {
		shop.Wait(name+" to be closed", 10*time.Second, func() bool { return shop.Exists("/run/gone-" + name) })
	}

	// A server that answers after its stop signal has cut nothing, though the drain time
	// had passed.
	shop.Sh("rm /run/held-* /run/gone-*")
	long = shop.openRequest()
	shop.holds("kept", "/")
	lines[0] = "SYSTEMD_CLUSTER_DRAIN_SEC=30"
	answered := func(doing string, want store.Counts) {
		t.Helper()
		shop.until(doing)
		long.answer()
		if one := long.client.Stop(); one.Lost() != 0 {
			t.Errorf("a request that is answered in time: %v", one)
		}
		shop.Wait("the rollout", 60*time.Second, func() bool { return shop.Property(shop.service(), "ActiveState") == "inactive" })
		shop.counted(want)
	}
	shop.begins("watching", append(lines, "STOP=die", "GENERATION=g3")...)
	answered("stopping shop@3 shop@4, which closes 1 connection(s) at rest", store.Counts{Drained: 1, Closed: 1})

	// A long answer is waited for.
	long = shop.openRequest()
	shop.begins("waiting for 1 connection", append(lines, "GENERATION=g4")...)
	answered("waiting for 1 connection", store.Counts{Drained: 1})
}

// counted checks what the receipt of the newest rollout counts.
func (a *app) counted(want store.Counts) {
	a.t.Helper()
	got := a.receipt("current").Rollout.Counts
	if got == nil {
		a.t.Fatalf("nothing was counted, want %+v", want)
	}
	of := *got
	of.ToldToClose, of.Untold = 0, 0                                              // other stories count these
	of.Migrated, of.MigrateFailed, of.ListenDrops, of.ListenOverflow = 0, 0, 0, 0 // of the whole machine
	if of != want {
		a.t.Errorf("counted %+v, want %+v", of, want)
	}
}

// TestNothingToSteer: an app that listens on no TCP port gets no word of traffic and
// connections. One that listens on a Unix socket is deployed only if its instances do
// not take it from each other.
func TestNothingToSteer(t *testing.T) {
	t.Parallel()
	worker := newShop(t)
	worker.name = "worker"
	write := func(a *app, lines ...string) {
		a.Write(a.path(), "SYSTEMD_CLUSTER_MODE=1\nSYSTEMD_CLUSTER_WATCH_SEC=1\n"+strings.Join(lines, "\n")+"\n", 0o644)
	}
	said := ""
	for n := range 2 {
		write(worker, "SYSTEMD_EXEC_START='/usr/bin/sleep 1000'", fmt.Sprintf("N=%d", n))
		said += worker.Must("app-rollout", "show", "worker") + worker.rollOut()
	}
	worker.want("worker@3 worker@4")
	said += worker.Must("app-rollout", "history", "worker") + worker.Must("app-rollout", "status", "worker") + worker.journal("APP_ROLLOUT_APP=worker") +
		worker.Read("/var/lib/app-rollout/worker/current/generation.json")
	steps := regexp.MustCompile(`(hold|start) [0-9]+, .* ms|"step": "drain"|"drain_sec"`)
	if word := regexp.MustCompile(`(?i).*(steer|traffic|connection|drain|\bcut\b|migrate).*`).FindString(steps.ReplaceAllString(said, "")); word != "" {
		t.Errorf("of an app that does not listen it is said: %s\n%s", word, said)
	}

	worker.unixSockets(write)
}

// unixSockets deploys apps that listen on a Unix socket.
func (a *app) unixSockets(write func(a *app, lines ...string)) {
	t := a.t
	a.Sh("mkdir -m 0777 /run/socks")
	const socket, server = "/run/socks/site.sock", "gunicorn --chdir /opt/apps wsgi:app --bind unix:"
	site := a.other(t, "site")
	write(site, "SYSTEMD_EXEC_START='/usr/bin/"+server+socket+"'")
	if r := site.run(); r.Code != 1 || !strings.Contains(r.Err, "site.env:3: SYSTEMD_EXEC_START listens on a Unix socket") {
		t.Errorf("status %d: %s%s", r.Code, r.Out, r.Err)
	}
	site.want("")

	// A script hides from check where the server listens.
	script := func(path string) { a.Write("/opt/site", "#!/bin/sh\nexec "+server+path+"\n", 0o755) }
	script(socket)
	lines := []string{"SYSTEMD_EXEC_START=/opt/site", "SYSTEMD_TYPE=notify", "SYSTEMD_READ_WRITE_PATHS=/run/socks"}
	write(site, lines...)
	if r := site.run(); r.Code != 1 || !strings.Contains(r.Err, "site@1 site@2 listen on the same Unix socket, "+socket+": only the last of them can be reached there; nothing serves; ") {
		t.Errorf("status %d: %s%s", r.Code, r.Out, r.Err)
	}
	site.want("")
	a.Sh("rm -f " + socket)
	write(site, append(lines, "SYSTEMD_CLUSTER_NODES=1")...)
	site.rollOut()
	r := site.run()
	const mend = "systemctl restart 'site@*.service'"
	if r.Code != 1 || !strings.Contains(r.Err, "still runs, but nobody reaches it at "+socket+" any more: "+mend+"; ") {
		t.Errorf("status %d: %s%s", r.Code, r.Out, r.Err)
	}
	answers := `python3 -c 'import socket; c = socket.socket(socket.AF_UNIX); c.connect("` + socket + `"); c.sendall(b"GET / HTTP/1.0\r\n\r\n"); assert b"200 OK" in c.recv(4096)'`
	if r := a.Run(t.Context(), "sh", "-c", answers); r.Code == 0 {
		t.Errorf("it is reached all the same")
	}
	a.Sh(mend)
	a.Wait("an answer", 20*time.Second, func() bool { return a.Run(t.Context(), "sh", "-c", answers).Code == 0 })

	// With a path for each instance it is deployed as any other app.
	site.discard()
	script("/run/socks/site-$SYSTEMD_INSTANCE.sock")
	write(site, lines...)
	site.rollOut()
	site.rollOut()
}
