//go:build story

package test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
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
	// An instance that owes nothing is told to stop a little before the other one.
	if line := regexp.MustCompile(`1 connection\(s\) of shop@[12 shop@]* still wait for an answer after 3 s`); !line.MatchString(said) {
		t.Errorf("nothing says %s:\n%s", line, said)
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
	answered := func(want store.Counts) {
		t.Helper()
		long.answer()
		if one := long.client.Stop(); one.Lost() != 0 {
			t.Errorf("a request that is answered in time: %v", one)
		}
		shop.Wait("the rollout", 60*time.Second, func() bool { return shop.Property(shop.service(), "ActiveState") == "inactive" })
		shop.counted(want)
	}
	shop.begins("watching", append(lines, "STOP=die", "GENERATION=g3")...)
	shop.Wait("the stop of the one that owes an answer", 30*time.Second, func() bool {
		says := shop.Property(shop.service(), "StatusText")
		return strings.Contains(says, "stopping shop@") && !strings.Contains(says, "one after the other")
	})
	answered(store.Counts{Drained: 1, Closed: 1})

	// A long answer is waited for.
	long = shop.openRequest()
	shop.begins("waiting for 1 connection", append(lines, "GENERATION=g4")...)
	answered(store.Counts{Drained: 1})

	shop.recoveryTells(append(lines, "STOP=die")...)
	shop.untilClosed()
}

// again is a client that asks on one connection, and once more on it when there is a file.
// It writes down what is answered then.
const again = `#!/usr/bin/python3
import os, socket, time
c = socket.create_connection(("127.0.0.1", 8080))
def ask():
    c.sendall(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
    return c.recv(4096)
ask()
open("/run/held-again", "w")
while not os.path.exists("/run/ask-again"): time.sleep(0.02)
with open("/run/answer-again.tmp", "wb") as f: f.write(ask())
os.rename("/run/answer-again.tmp", "/run/answer-again")
`

// recoveryTells kills a run while it drains. Clients of the old instances are told to close
// while the recovery drains them, and the long answer that it waits for comes.
func (a *app) recoveryTells(lines ...string) {
	a.t.Helper()
	const recovery = "app-rollout-recover@shop.service"
	a.Write("/opt/again", again, 0o755)
	a.deploy(append(lines, "GENERATION=k1")...)
	long := a.openRequest()
	a.Must("systemd-run", "--collect", "--unit=again", "/opt/again")
	a.Wait("a client that rests", 20*time.Second, func() bool { return a.Exists("/run/held-again") })
	a.begins("waiting for 1 connection", append(lines, "GENERATION=k2")...)
	a.Must("systemctl", "kill", "--signal=KILL", a.service())
	a.untilOf(recovery, "waiting for 1 connection")
	a.Sh("touch /run/ask-again")
	a.Wait("the answer", 20*time.Second, func() bool { return a.Exists("/run/answer-again") })
	if answer := a.Read("/run/answer-again"); !strings.HasPrefix(answer, "HTTP/1.1 200 ") || !strings.Contains(answer, "\r\nConnection: close") {
		a.t.Errorf("the recovery has told the client %q", answer)
	}
	long.answer()
	if one := long.client.Stop(); one.Lost() != 0 {
		a.t.Errorf("a request that is answered while the recovery waits for it: %v", one)
	}
	a.Wait("the recovery", 60*time.Second, func() bool { return a.Property(recovery, "ActiveState") == "inactive" })
	a.want("shop@11 shop@12")
}

// sockets is a client that opens WebSockets until each of so many instances has one. It
// keeps them until the server closes them, or there is a file, and then writes how many
// there were, and on how many the server has said goodbye.
const sockets = `#!/usr/bin/python3
import json, os, select, socket, sys
name, instances = sys.argv[1], int(sys.argv[2])
held, found = {}, set()
while len(found) < instances:
    c = socket.create_connection(("127.0.0.1", 8080))
    c.sendall(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
    answer = b""
    while not answer.endswith(b"\n") or b"\r\n\r\n" not in answer: answer += c.recv(4096)
    found.add(answer.split(b"\r\n\r\n")[1].split()[1])
    c.sendall(b"GET /ws HTTP/1.1\r\nHost: shop\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n")
    while not answer.endswith(b"\r\n\r\n"): answer += c.recv(4096)
    held[c] = b""
open("/run/held-" + name, "w")
all, goodbyes = len(held), 0
while held and not os.path.exists("/run/leave-" + name):
    for c in select.select(list(held), [], [], 0.05)[0]:
        data = c.recv(4096)
        held[c] += data
        if not data: goodbyes += held.pop(c).startswith(b"\x88")
with open("/run/gone-" + name + ".tmp", "w") as f: json.dump({"All": all, "Goodbyes": goodbyes}, f)
os.rename("/run/gone-" + name + ".tmp", "/run/gone-" + name)
`

// untilClosed deploys with clients that keep WebSockets: the drain lasts until they have
// gone, or else the instances are told to stop one after the other.
func (a *app) untilClosed() {
	t := a.t
	t.Helper()
	const nodes = 4
	a.Write("/opt/sockets", sockets, 0o755)
	lines := []string{"SYSTEMD_CLUSTER_DRAIN_UNTIL=closed", fmt.Sprint("SYSTEMD_CLUSTER_NODES=", nodes), "SYSTEMD_CLUSTER_DRAIN_SEC=12", "SYSTEMD_CLUSTER_WATCH_SEC=1"}
	opens := func(name string) {
		a.Must("systemd-run", "--collect", "--unit=hold-"+name, "/opt/sockets", name, fmt.Sprint(nodes))
		a.Wait(name, 20*time.Second, func() bool { return a.Exists("/run/held-" + name) })
	}
	gone := func(name string) (seen struct{ All, Goodbyes int }) {
		a.Wait(name+" to be gone", 20*time.Second, func() bool { return a.Exists("/run/gone-" + name) })
		if err := json.Unmarshal([]byte(a.Read("/run/gone-"+name)), &seen); err != nil {
			t.Fatal(err)
		}
		return seen
	}
	a.deploy(append(lines, "GENERATION=g5")...)
	opens("leaving")
	a.begins("to be closed, for 12 s at most", append(lines, "GENERATION=g6")...)
	a.Sh("touch /run/leave-leaving")
	a.Wait("the rollout", 60*time.Second, func() bool { return a.Property(a.service(), "ActiveState") == "inactive" })
	a.counted(store.Counts{Drained: gone("leaving").All})

	opens("staying")
	was := strings.Fields(a.instances())
	said := a.deploy(append(lines, "GENERATION=g7")...)
	if line := fmt.Sprintf("stopping %s one after the other", strings.Join(was, " ")); !strings.Contains(said, line) {
		t.Errorf("nothing says %q:\n%s", line, said)
	}
	seen := gone("staying")
	if seen.Goodbyes != seen.All {
		t.Errorf("%d of %d WebSockets got a goodbye", seen.Goodbyes, seen.All)
	}
	a.counted(store.Counts{Closed: seen.All})
	var signals []time.Duration
	for _, unit := range was {
		signals = append(signals, a.toldToStop(unit+".service"))
	}
	// They are due 0.3 s after each other.
	if !slices.IsSorted(signals) || signals[nodes-1]-signals[0] < 300*time.Millisecond {
		t.Errorf("%v were told to stop at %v", was, signals)
	}
}

// toldToStop is when systemd began to stop a unit, since the kernel's boot.
func (a *app) toldToStop(unit string) time.Duration {
	a.t.Helper()
	var record struct {
		At string `json:"__MONOTONIC_TIMESTAMP"`
	}
	// The message is SD_MESSAGE_UNIT_STOPPING; see systemd's sd-messages.h.
	text := a.Must("journalctl", "-b", "-n1", "-o", "json", "MESSAGE_ID=de5b426a63be47a7b6ac3eaac82e2f6f", "UNIT="+unit)
	if err := json.Unmarshal([]byte(text), &record); err != nil {
		a.t.Fatalf("%s: %v: %s", unit, err, text)
	}
	at, err := strconv.ParseInt(record.At, 10, 64)
	if err != nil {
		a.t.Fatal(err)
	}
	return time.Duration(at) * time.Microsecond
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
	const mend, stop = "systemctl restart 'site@*.service'", "systemctl stop 'site@*.service'"
	const anew = "stop the app (" + stop + "), then: app-rollout run site"
	if r.Code != 1 || !strings.Contains(r.Err, "still runs, but nobody reaches it at "+socket+" any more: "+mend+"; ") || !strings.Contains(r.Err, "; "+anew) {
		t.Errorf("status %d: %s%s", r.Code, r.Out, r.Err)
	}
	answers := `python3 -c 'import socket; c = socket.socket(socket.AF_UNIX); c.connect("` + socket + `"); c.sendall(b"GET / HTTP/1.0\r\n\r\n"); assert b"200 OK" in c.recv(4096)'`
	if r := a.Run(t.Context(), "sh", "-c", answers); r.Code == 0 {
		t.Errorf("it is reached all the same")
	}
	a.Sh(mend)
	a.Wait("an answer", 20*time.Second, func() bool { return a.Run(t.Context(), "sh", "-c", answers).Code == 0 })

	// With a path for each instance, as advised, it is deployed as any other app.
	script("/run/socks/site-$SYSTEMD_INSTANCE.sock")
	write(site, lines...)
	a.Sh(stop)
	site.rollOut()
	site.rollOut()
}
