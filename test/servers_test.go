//go:build story

package test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"app-rollout/test/load"
	"app-rollout/test/machine"
	"app-rollout/test/servers"
)

// A server is one of servers.All as an app.
type server struct {
	servers.Server
	*app
}

// serve returns the server as an app on shop's machine.
func serve(t *testing.T, shop *app, s servers.Server) server {
	return server{s, shop.other(t, s.App())}
}

// write puts a generation of the server in place.
func (s server) write(generation int, lines ...string) {
	s.t.Helper()
	if path, text := s.File(generation); path != "" {
		s.app.Write(path, text, 0o644)
	}
	s.app.Write(s.path(), s.EnvFile(generation, lines...), 0o644)
}

// full: TestServers measures the tables of RESULTS.md. Without it, it does the same in
// short.
var full = os.Getenv("SERVERS") == "full"

// serversMachine boots a machine on which all servers are installed, and these layers.
func serversMachine(t *testing.T, layers ...string) *app {
	return newShop(t, machine.Options{Packages: servers.Packages(), Layers: append(layers, machine.Node(t), machine.Bun(t))})
}

// TestServers: no server loses a connection, whatever it does on its stop signal and
// whether or not it sets SO_REUSEPORT itself. The right generation answers every
// connection.
func TestServers(t *testing.T) {
	t.Parallel()
	shop := serversMachine(t)
	// Puma has five threads, and would leave the others waiting if five kept all of them.
	e := servers.Effort{Rollouts: 2, Clients: 8, Keepers: 4, Pause: 2 * time.Millisecond, Calm: 50}
	if full {
		// There are more clients, but their requests leave one of two CPUs free, which an
		// instance needs to start. There are about as many answers between the rollouts
		// as in one.
		e = servers.Effort{Rollouts: 5, Clients: 32, Pause: 20 * time.Millisecond, Calm: 2500}
	}
	var rows servers.Table
	for _, one := range servers.All {
		t.Run(one.Name, func(t *testing.T) {
			s := serve(t, shop, one)
			lines := []string{"SYSTEMD_CLUSTER_WATCH_SEC=1"}
			if !full && s.Keeps == servers.Silent {
				// Clients that cannot be told to close never rest.
				lines = append(lines, "SYSTEMD_CLUSTER_DRAIN_SEC=1")
			}
			ours := s.rollouts(e, lines...)
			s.inOrder(ours.Report.Answers)
			s.wasSteered(ours)
			if !full {
				s.keptAll(ours)
				s.discard()
				return
			}
			rows = append(rows, s.compare(e, ours))
			path := filepath.Join(machine.Root(), "build", "servers.md")
			if err := os.WriteFile(path, []byte(rows.Markdown(e)), 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// keptAll checks that clients that keep their connections have lost no request, and that
// the drains did not wait in vain for them to go. None of them repeats a request. Where
// they cannot be told to close, the receipt says so.
func (s server) keptAll(d servers.Measured) {
	s.t.Helper()
	switch s.Keeps {
	case servers.Tells:
		nothingLost(s.t, d.Keepers)
		for _, record := range d.Records {
			if record.Cut > 0 || record.Untold > 0 {
				s.t.Errorf("%s", record.Connections())
			}
		}
	case servers.Silent:
		for _, record := range d.Records {
			if record.ToldToClose > 0 || record.Untold == 0 {
				s.t.Errorf("%s", record.Connections())
			}
		}
	}
}

// compare completes a row of the table: it measures kept connections, more load, and
// the swap by hand.
func (s server) compare(e servers.Effort, ours servers.Measured) servers.Row {
	s.t.Helper()
	row := servers.Row{Name: s.Server.Name, Ours: ours}
	row.Ours.Kept = s.kept(e.Rollouts + 2)
	s.discard()

	more := e
	more.Pause /= 2
	row.More = s.rollouts(more, "SYSTEMD_CLUSTER_WATCH_SEC=1")
	s.wasSteered(row.More)
	s.discard()

	back := s.plain()
	row.Plain = s.rollouts(e)
	row.Plain.Kept = s.kept(e.Rollouts + 2)
	s.discard()
	back()
	for _, d := range []servers.Measured{row.Ours, row.More, row.Plain} {
		// The kernel gives the first few no time, until its clock for packets is on.
		if n := d.Report.Untimed; n > e.Clients {
			s.t.Errorf("the kernel gave %d answers no time", n)
		}
	}
	return row
}

// TestServersUnsteered: where steering is unavailable, each server is rolled out all
// the same. The record says how and why, no connection is refused, and only
// generations that are up answer.
func TestServersUnsteered(t *testing.T) {
	t.Parallel()
	shop := serversMachine(t)
	shop.dropIn("app-rollout@.service", noBPF)
	for _, one := range servers.All {
		t.Run(one.Name, func(t *testing.T) {
			s := serve(t, shop, one)
			defer s.discard()
			s.write(1)
			s.rollOut()
			client := s.Load(load.Options{Addr: port, Workers: 4, Want: "g", Timeline: true, Pause: 5 * time.Millisecond})
			s.more(client, 20)
			var took []servers.Span
			for i, rung := range []string{"migrated", "plain"} {
				s.Sh(fmt.Sprintf("echo %d > /proc/sys/net/ipv4/tcp_migrate_req", 1-i))
				took = append(took, s.rollout(2+i))
				record := s.receipt("current").Rollout
				if why := "is not permitted (it needs CAP_BPF"; record.Result != "ready" || record.Traffic != rung || !strings.Contains(record.TrafficReason, why) {
					t.Errorf("%s: traffic was %s: %s; want %s: %s", record.Result, record.Traffic, record.TrafficReason, rung, why)
				}
			}
			s.more(client, 20)
			report := client.Stop()
			t.Logf("clients: %v", report)
			if n := report.Kinds[load.Refused]; n > 0 {
				t.Errorf("%d refused", n)
			}
			onlyUp(t, report.Answers, took)
		})
	}
}

// onlyUp checks that every answer came from a generation that was up: from the
// beginning of its own rollout to the end of the next one. The first rollout is that
// of the second generation.
func onlyUp(t *testing.T, answers []load.Answer, took []servers.Span) {
	t.Helper()
	last := len(took) + 1
	seen := 0
	for _, a := range answers {
		word, _, _ := strings.Cut(a.Label, " ")
		g, err := strconv.Atoi(strings.TrimPrefix(word, "g"))
		if err != nil || g < 1 || g > last {
			t.Fatalf("an answer from %q", a.Label)
		}
		if g > 1 && a.End < took[g-2].From.UnixNano() || g < last && a.Start > took[g-1].To.UnixNano() {
			t.Errorf("an answer from %q, which was not up: %+v", a.Label, a)
		}
		if a.Start > took[last-2].To.UnixNano() {
			seen++
		}
	}
	if seen == 0 {
		t.Error("no answer from the last generation")
	}
}

// wasSteered checks that traffic was steered in each rollout and nothing was lost.
func (s server) wasSteered(d servers.Measured) {
	s.t.Helper()
	nothingLost(s.t, d.Report)
	for _, record := range d.Records {
		if record.Traffic != "steered" {
			s.t.Errorf("traffic was %s: %s", record.Traffic, record.TrafficReason)
		}
	}
}

// rollout rolls a generation out, as a deploy script does: nobody watches it.
func (s server) rollout(generation int, lines ...string) servers.Span {
	s.t.Helper()
	s.write(generation, lines...)
	from := time.Now()
	s.Must("systemctl", "start", s.service())
	return servers.Span{From: from, To: time.Now()}
}

// rollouts starts the server and rolls it out so many times under load.
func (s server) rollouts(e servers.Effort, lines ...string) servers.Measured {
	s.t.Helper()
	s.rollout(1)
	client := s.Load(load.Options{Addr: port, Workers: e.Clients, Want: "g", Timeline: true, Pause: e.Pause})
	var keepers *machine.Load
	if e.Keepers > 0 {
		keepers = s.Load(load.Options{Addr: port, Workers: e.Keepers, Want: "g", Keep: true, Pause: e.Pause})
	}
	calm := func() (idle, all int64) {
		idleBefore, allBefore := cpuTime(s.t)
		s.more(client, e.Calm)
		idle, all = cpuTime(s.t)
		return idle - idleBefore, all - allBefore
	}
	calm() // warms the server up
	var d servers.Measured
	var idle, all int64
	for g := 2; g <= e.Rollouts+1; g++ {
		d.Took = append(d.Took, s.rollout(g, lines...))
		d.Records = append(d.Records, s.receipt("current").Rollout)
		i, a := calm()
		idle, all = idle+i, all+a
	}
	if keepers != nil {
		d.Keepers = keepers.Stop()
	}
	d.Report, d.Idle = client.Stop(), float64(idle)/float64(max(all, 1))
	return d
}

// cpuTime is the time of this computer's CPUs since it was booted, idle and in all, in
// ticks: see proc_stat(5).
func cpuTime(t *testing.T) (idle, all int64) {
	t.Helper()
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	// The last two fields, the guests' time, are part of the first two.
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
func (s server) kept(generation int) string {
	s.t.Helper()
	s.write(generation)
	done := make(chan machine.Result, 1)
	go func() {
		done <- s.Run(context.Background(), "wrk", "-t", "1", "-c", "16", "-d", "4", "http://"+port+"/")
	}()
	s.Wait("wrk", 20*time.Second, func() bool {
		return s.Run(context.Background(), "sh", "-c", "ss -Htn state established sport = :8080 | grep -q .").Code == 0
	})
	s.rollOut()
	lost, err := servers.WrkLost((<-done).Out)
	if err != nil {
		s.t.Fatal(err)
	}
	return lost
}

// plain takes steering away from the rollouts, and moving of queued
// connections from the kernel: what is left is start, wait, stop.
func (a *app) plain() (back func()) {
	lift := a.dropIn("app-rollout@.service", noBPF)
	a.Sh("echo 0 > /proc/sys/net/ipv4/tcp_migrate_req")
	return func() {
		a.Sh("echo 1 > /proc/sys/net/ipv4/tcp_migrate_req")
		lift()
	}
}
