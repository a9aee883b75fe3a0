//go:build story

package test

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"app-rollout/test/load"
	"app-rollout/test/machine"
	"app-rollout/units/store"
)

// busy is a client that leaves the machine some room.
func busy(m *machine.Machine) *machine.Load {
	c := m.Load(load.Options{Addr: "127.0.0.1:8080", Workers: 8, Pause: 2 * time.Millisecond, Timeline: true})
	m.Wait("answers", 20*time.Second, func() bool { return c.Answered() > 50 })
	return c
}

// asking starts one request that takes its time and is made once, and returns
// when it has reached an instance.
func asking(m *machine.Machine, path string) (report func() *load.Report) {
	c := m.Load(load.Options{Addr: "127.0.0.1:8080", Workers: 1, Path: path, Timeout: time.Minute, Timeline: true})
	m.Wait("the request", 10*time.Second, func() bool {
		return m.Run(context.Background(), "sh", "-c", "ss -Htn state established sport = :8080 | grep -q .").Code == 0
	})
	reports := make(chan *load.Report, 1)
	go func() {
		r, _ := c.Client.Stop() // makes no other request
		reports <- r
	}()
	return func() *load.Report { return <-reports }
}

// TestRequestInFlight: a long request on an old instance is answered in full,
// and nobody else waits for it. A prefork server that is told to stop keeps its
// listener until its busy workers are done, and whoever is sent there waits.
func TestRequestInFlight(t *testing.T) {
	t.Parallel()
	m := machine.Boot(t, machine.Options{Install: true, Layers: []string{machine.Apps(t)}})
	for i, c := range []struct{ name, exec string }{
		{"gunicorn", "/usr/bin/gunicorn --chdir /opt/apps --reuse-port -b 127.0.0.1:8080 -w 2 wsgi:app"},
		{"go", "/opt/apps/server"},
	} {
		app := "shop" + strconv.Itoa(i)
		env := func(g string) {
			m.Write("/etc/app-rollout/"+app+".env", shop("SYSTEMD_EXEC_START="+c.exec, "SYSTEMD_CLUSTER_WATCH_SEC=0", "GENERATION="+g), 0o644)
		}
		env("g1")
		deploys(t, m, app)
		const takes = 10 * time.Second
		long := asking(m, "/?delay="+takes.String())
		others := busy(m)
		env("g2")
		deploys(t, m, app)
		rest := others.Stop()
		nothingLost(t, rest)
		inOrder(t, m, app, rest.Answers)
		// Without a drain the stop comes early in it: who waits for it waits long.
		if rest.Max > takes/4 {
			t.Errorf("%s: a client waited %v, for a request of %v that was another's", c.name, rest.Max, takes)
		}
		one := long()
		if one == nil || one.Lost() > 0 || one.Answered() != 1 {
			t.Fatalf("%s: the long request: %v", c.name, one)
		}
		for label := range one.Labels {
			if !strings.HasPrefix(label, "g1 ") {
				t.Errorf("%s: the long request was answered by %q", c.name, label)
			}
		}
		discard(m, app)
	}
}

// TestBadGenerationsUnderLoad: what the clients notice of a new generation that
// is bad: nothing, as long as it shows before it gets connections; what dies
// with requests in hand takes these along, and nothing more.
func TestBadGenerationsUnderLoad(t *testing.T) {
	t.Parallel()
	m := machine.Boot(t, machine.Options{Install: true, Layers: []string{machine.Apps(t)}})
	m.Write("/etc/app-rollout/shop.env", shop("GENERATION=good"), 0o644)
	deploys(t, m, "shop")
	client := busy(m)
	for _, c := range []struct {
		name string
		env  []string
		why  string
	}{
		{"answers 500", []string{"STATUS=500", "SYSTEMD_CLUSTER_HEALTH_PATH=/"}, "answers GET / with status 500"},
		{"hangs", []string{"HANG=1", "SYSTEMD_CLUSTER_HEALTH_PATH=/"}, "does not answer GET /"},
		{"exits on the first request", []string{"EXIT_ON=1", "SYSTEMD_CLUSTER_HEALTH_PATH=/"}, "shop@"},
		{"another port", []string{"LISTEN=127.0.0.1:8081"}, "does not listen on 127.0.0.1:8080 as the running instances do"},
		{"another PORT", []string{"PORT=8081"}, "is to listen on port 8081, but listens on 8080"},
		{"exits before it listens", []string{"EXIT_AFTER=500ms", "START_DELAY=5s", "SYSTEMD_RESTART_SEC=100ms"}, "exited with status 1"},
	} {
		m.Write("/etc/app-rollout/shop.env", shop(append(c.env, "GENERATION=bad", "SYSTEMD_CLUSTER_READY_SEC=5")...), 0o644)
		if r := run(m, "shop"); r.Code != 1 || !strings.Contains(r.Out+r.Err, c.why) {
			t.Errorf("%s: status %d, want %q:\n%s%s", c.name, r.Code, c.why, r.Out, r.Err)
		}
		want(t, m, "shop", "shop@1 shop@2")
	}
	report := client.Stop()
	nothingLost(t, report)
	for label := range report.Labels {
		if !strings.HasPrefix(label, "good ") {
			t.Errorf("an answer from %q", label)
		}
	}

	// Without a proxy that could ask again, the requests in the hands of a
	// process that dies are lost. Each of the two new instances dies once.
	for _, c := range []struct {
		name string
		env  []string
	}{
		{"exits on the first real request", []string{"EXIT_ON=1"}},
		{"is ready, then restarts", []string{"EXIT_AFTER=5s", "SYSTEMD_RESTART_SEC=100ms", "SYSTEMD_CLUSTER_WATCH_SEC=30"}},
	} {
		client = busy(m)
		m.Write("/etc/app-rollout/shop.env", shop(append(c.env, "GENERATION=bad")...), 0o644)
		if r := run(m, "shop"); r.Code != 1 || !strings.Contains(r.Out+r.Err, "while it was watched") {
			t.Errorf("%s: status %d\n%s%s", c.name, r.Code, r.Out, r.Err)
		}
		last := client.Answered()
		m.Wait("answers", 20*time.Second, func() bool { return client.Answered() > last+100 })
		report = client.Stop()
		t.Logf("%s: %v", c.name, report)
		if report.Lost() > 2*8 {
			t.Errorf("%s: %d lost, with 8 requests in hand of 2 instances at most", c.name, report.Lost())
		}
		died := lastTime(t, m, "-t", "systemd", "-g", "^shop@.*: Main process exited")
		for _, f := range report.Failures {
			if f.Start > died.UnixNano() {
				t.Errorf("%s: lost after the new instances were dead: %+v", c.name, f)
			}
		}
		want(t, m, "shop", "shop@1 shop@2")
		answersOnly(t, m, "good")
	}
}

// lastTime is the time of the last record of this boot that matches.
func lastTime(t *testing.T, m *machine.Machine, match ...string) time.Time {
	t.Helper()
	m.Must("journalctl", "--sync")
	out := m.Must("journalctl", append([]string{"-b", "-o", "json", "-n", "1"}, match...)...)
	var record struct {
		Time string `json:"__REALTIME_TIMESTAMP"`
	}
	if err := json.Unmarshal([]byte(out), &record); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	us, err := strconv.ParseInt(record.Time, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.UnixMicro(us)
}

// TestAsksTheInstance: each new instance is asked by itself, though all share
// the port: if one of them is not well, it is that one that is named.
func TestAsksTheInstance(t *testing.T) {
	t.Parallel()
	m := machine.Boot(t, machine.Options{Install: true, Layers: []string{machine.Apps(t)}})
	m.Write("/opt/apps/one-is-ill", "#!/bin/sh\n[ $SYSTEMD_INSTANCE != \"$ILL\" ] || export HEALTH=500\nexec /opt/apps/server\n", 0o755)
	env := func(ill int) {
		m.Write("/etc/app-rollout/shop.env", shop("SYSTEMD_EXEC_START=/opt/apps/one-is-ill", "SYSTEMD_CLUSTER_NODES=3",
			"SYSTEMD_CLUSTER_HEALTH_PATH=/health", "SYSTEMD_CLUSTER_READY_SEC=3", "ILL="+strconv.Itoa(ill)), 0o644)
	}
	env(0)
	deploys(t, m, "shop")
	for round := range 3 {
		first := 4 + 3*round // what is rolled back leaves its numbers used
		ill := first + round
		env(ill)
		r := run(m, "shop")
		if why := fmt.Sprintf("shop@%d.service was not ready after 3 s: it answers GET /health with status 500 on 127.0.0.1:8080", ill); r.Code != 1 || !strings.Contains(r.Err, why) {
			t.Errorf("status %d, want %q:\n%s%s", r.Code, why, r.Out, r.Err)
		}
		for n := first; n < first+3; n++ {
			if n != ill && strings.Contains(r.Err, fmt.Sprintf("shop@%d.service", n)) {
				t.Errorf("shop@%d is named too: %s", n, r.Err)
			}
		}
		want(t, m, "shop", "shop@1 shop@2 shop@3")
	}
}

// TestNobodyElseOnThePort: since ports are shared, another app of the same user,
// or anything else of this user, could get a part of the connections.
func TestNobodyElseOnThePort(t *testing.T) {
	t.Parallel()
	m := machine.Boot(t, machine.Options{Install: true, Layers: []string{machine.Apps(t)}})
	env := func(app string, lines ...string) {
		m.Write("/etc/app-rollout/"+app+".env", shop(append([]string{"SYSTEMD_USER=www-data", "SYSTEMD_CLUSTER_READY_SEC=5"}, lines...)...), 0o644)
	}
	env("shop", "GENERATION=good")
	deploys(t, m, "shop")
	client := busy(m)

	env("other", "GENERATION=other")
	if r := run(m, "other"); r.Code != 1 || !strings.Contains(r.Err, "shop@") || !strings.Contains(r.Err, ".service listens on 127.0.0.1:8080 too; stop it or give one of them another port") {
		t.Errorf("another app: status %d\n%s%s", r.Code, r.Out, r.Err)
	}
	want(t, m, "other", "")
	report := client.Stop()
	nothingLost(t, report)
	for label := range report.Labels {
		if !strings.HasPrefix(label, "good ") {
			t.Errorf("an answer from %q", label)
		}
	}
	m.Sh("rm /etc/app-rollout/other.env")

	// A stranger who shares the port on purpose.
	stranger := "[Service]\nUser=www-data\nEnvironment=PORT=8080 REUSEPORT=1 GENERATION=stranger\nExecStart=/opt/apps/server\n[Install]\nWantedBy=multi-user.target\n"
	m.Write("/etc/systemd/system/stranger.service", stranger, 0o644)
	m.Sh("systemctl daemon-reload; systemctl start stranger.service")
	m.Wait("the stranger", 10*time.Second, func() bool {
		return m.Run(context.Background(), "sh", "-c", "[ $(ss -Hltn sport = :8080 | wc -l) = 3 ]").Code == 0
	})
	const why = "stranger.service listens on 127.0.0.1:8080 too; stop it or give one of them another port"
	env("shop", "GENERATION=next")
	if r := run(m, "shop"); r.Code != 1 || !strings.Contains(r.Err, why) {
		t.Errorf("a stranger: status %d\n%s%s", r.Code, r.Out, r.Err)
	}
	want(t, m, "shop", "shop@1 shop@2")
	m.Must("systemctl", "enable", "stranger.service")
	m.Reboot()
	m.Wait("the boot service", 60*time.Second, func() bool {
		state := m.Property("app-rollout-boot.service", "SubState")
		return state == "exited" || state == "failed"
	})
	if log := m.Sh("journalctl -b -u app-rollout-boot.service -o cat"); !strings.Contains(log, why) {
		t.Errorf("the boot does not name the stranger:\n%s", log)
	}
	m.Sh("systemctl disable --now stranger.service")
	deploys(t, m, "shop")

	// Other addresses: refused with the commands that make the change, and the
	// commands do.
	for _, c := range []struct{ line, addr string }{
		{"LISTEN=0.0.0.0:PORT", "127.0.0.1:8080"},
		{"PORT=8088", "127.0.0.1:8088"},
	} {
		env("shop", "GENERATION=moved", c.line)
		before := instances(m, "shop")
		r := run(m, "shop")
		const commands = "(systemctl stop 'shop@*.service'), then: app-rollout run shop"
		if r.Code != 1 || !strings.Contains(r.Err, commands) {
			t.Errorf("%s: status %d\n%s%s", c.line, r.Code, r.Out, r.Err)
		}
		want(t, m, "shop", before)
		m.Sh("systemctl stop 'shop@*.service'; app-rollout run shop")
		probe := m.Load(load.Options{Addr: c.addr, Workers: 1, Want: "moved"})
		m.Wait("answers on the new address", 10*time.Second, func() bool { return probe.Answered() > 0 })
		probe.Stop()
	}
}

// TestNothingLeftBehind: however a rollout ended, no program steers the app's
// port any more. One that did would know nothing of an instance that is
// restarted later, which would get no connections for ever.
func TestNothingLeftBehind(t *testing.T) {
	t.Parallel()
	m := machine.Boot(t, machine.Options{Install: true, Layers: []string{machine.Apps(t)}})
	env := func(lines ...string) {
		m.Write("/etc/app-rollout/shop.env", shop(append([]string{"SYSTEMD_RESTART_SEC=100ms"}, lines...)...), 0o644)
	}
	killHelper := func(doing string) {
		m.Must("systemctl", "start", "--no-block", "app-rollout@shop.service")
		m.Wait(doing, 20*time.Second, func() bool {
			return strings.Contains(m.Property("app-rollout@shop.service", "StatusText"), doing)
		})
		if doing == "starting" {
			m.Wait("the new instances to listen", 10*time.Second, func() bool {
				return len(strings.Fields(m.Sh("ss -Hltn sport = :8080 | cut -c1-6"))) == 4
			})
		}
		m.Sh("kill -KILL $(systemctl show --value -p MainPID app-rollout@shop.service)")
		m.Wait("the end of the service and of its recovery", 60*time.Second, func() bool {
			return m.Property("app-rollout@shop.service", "ActiveState") == "failed" && m.Sh("systemctl list-jobs --no-legend") == ""
		})
	}
	env()
	deploys(t, m, "shop")
	defer func() {
		if log := m.Sh("journalctl --sync; journalctl -b -o cat APP_ROLLOUT_APP=shop"); strings.Contains(log, "not steered") {
			t.Errorf("what a killed run has left is in the way of the next:\n%s", log)
		}
	}()
	for _, c := range []struct {
		name string
		do   func()
	}{
		{"a rollout", func() { env("GENERATION=g2"); deploys(t, m, "shop") }},
		{"a failed rollout", func() {
			env("EXIT_AT_START=1")
			if r := run(m, "shop"); r.Code != 1 {
				t.Errorf("status %d", r.Code)
			}
		}},
		{"a rollout that fails after its shift", func() {
			env("EXIT_AFTER=1s")
			if r := run(m, "shop"); r.Code != 1 {
				t.Errorf("status %d", r.Code)
			}
		}},
		{"a rollout whose helper was killed", func() {
			env("GENERATION=g3", "SYSTEMD_CLUSTER_WATCH_SEC=60")
			client := busy(m)
			killHelper("watching")
			nothingLost(t, client.Stop())
		}},
		{"a rollout whose helper was killed before the shift", func() {
			env("GENERATION=bad", "STATUS=500", "SYSTEMD_CLUSTER_HEALTH_PATH=/")
			client := busy(m)
			killHelper("starting")
			nothingLost(t, client.Stop())
			env("GENERATION=g4", "SYSTEMD_CLUSTER_WATCH_SEC=60")
		}},
		{"the run after one that was killed, and nothing put right then", func() {
			m.Write("/etc/systemd/system/app-rollout-recover@.service.d/fails.conf", "[Service]\nExecStart=\nExecStart=false\n", 0o644)
			m.Must("systemctl", "daemon-reload")
			client := busy(m)
			killHelper("watching")
			recovery := func() string { return m.Property("app-rollout-recover@shop.service", "ActiveState") }
			if state := recovery(); state != "failed" {
				t.Errorf("the recovery is %s", state)
			}
			env("GENERATION=g5")
			deploys(t, m, "shop")
			nothingLost(t, client.Stop())
			if state := recovery(); state != "inactive" {
				t.Errorf("all is put right, but the recovery is still %s", state)
			}
		}},
	} {
		c.do()
		units := strings.Fields(instances(m, "shop"))
		if len(units) != 2 {
			t.Fatalf("after %s: %v run", c.name, units)
		}
		unit := units[0] + ".service"
		pid := m.Property(unit, "MainPID")
		m.Must("kill", "-KILL", pid)
		m.Wait(unit+" to listen again", 20*time.Second, func() bool {
			now := m.Property(unit, "MainPID")
			return now != pid && now != "0" && strings.Contains(m.Sh("ss -Hltnp sport = :8080"), "pid="+now+",")
		})
		client := busy(m)
		m.Wait("answers", 20*time.Second, func() bool { return client.Answered() > 400 })
		report := client.Stop()
		share := 0
		for label, n := range report.Labels {
			if strings.HasSuffix(label, " "+m.Property(unit, "MainPID")) {
				share += n
			}
		}
		if share < report.Answered()/4 {
			t.Errorf("after %s: an instance that was restarted got %d of %d requests", c.name, share, report.Answered())
		}
	}
}

// TestShapes: whatever an app listens on, and however many instances it has,
// nothing is lost, and no generation answers out of its turn.
func TestShapes(t *testing.T) {
	t.Parallel()
	m := machine.Boot(t, machine.Options{Install: true, Layers: []string{machine.Apps(t)}})
	type shape struct {
		app   string
		env   []string
		addrs []string // where clients ask
	}
	together := func(shapes ...shape) {
		var apps []string
		write := func(g string) {
			for _, s := range shapes {
				m.Write("/etc/app-rollout/"+s.app+".env", shop(append(s.env, "GENERATION="+g, "SYSTEMD_CLUSTER_HEALTH_PATH=/")...), 0o644)
			}
		}
		for _, s := range shapes {
			apps = append(apps, s.app)
		}
		write("g1")
		deploys(t, m, apps...)
		clients := make([][]*machine.Load, len(shapes))
		for i, s := range shapes {
			for _, addr := range s.addrs {
				clients[i] = append(clients[i], m.Load(load.Options{Addr: addr, Workers: 1, Pause: 10 * time.Millisecond, Timeline: true}))
			}
		}
		write("g2")
		deploys(t, m, apps...)
		for i, s := range shapes {
			for j, client := range clients[i] {
				last := client.Answered()
				m.Wait("answers on "+s.addrs[j], 20*time.Second, func() bool { return client.Answered() > last+20 })
				report := client.Stop()
				t.Logf("%s on %s", s.app, s.addrs[j])
				nothingLost(t, report)
				inOrder(t, m, s.app, report.Answers)
			}
			if record := receipt(m, s.app, "current").Rollout; record.Rung != "steered" {
				t.Errorf("%s: traffic was %s: %s", s.app, record.Rung, record.RungWhy)
			}
			discard(m, s.app)
		}
	}
	together(
		shape{"ipv4", []string{"PORT=8101"}, []string{"127.0.0.1:8101"}},
		shape{"ipv6", []string{"PORT=8102", "LISTEN=[::1]:PORT"}, []string{"[::1]:8102"}},
		shape{"dual-stack", []string{"PORT=8103", "LISTEN=:PORT"}, []string{"127.0.0.1:8103", "[::1]:8103"}},
		shape{"listeners", []string{"PORT=8104", "LISTEN=127.0.0.1:PORT,[::1]:PORT", "STOP=die"}, []string{"127.0.0.1:8104", "[::1]:8104"}},
		shape{"ports", []string{"PORT=8105", "LISTEN=127.0.0.1:PORT,127.0.0.1:9090,[::1]:9091,127.0.0.1:0"}, []string{"127.0.0.1:8105", "127.0.0.1:9090", "[::1]:9091"}},
		shape{"single", []string{"PORT=8106", "SYSTEMD_CLUSTER_NODES=1", "LISTEN=127.0.0.1:PORT,127.0.0.1:0"}, []string{"127.0.0.1:8106"}},
		shape{"single-dies", []string{"PORT=8107", "SYSTEMD_CLUSTER_NODES=1", "STOP=die", "LISTEN=:PORT"}, []string{"127.0.0.1:8107", "[::1]:8107"}},
	)
	together(shape{"many", []string{"SYSTEMD_CLUSTER_NODES=32", "STOP=die"}, []string{"127.0.0.1:8080", "127.0.0.1:8080", "127.0.0.1:8080", "127.0.0.1:8080"}})
}

// discard ends an app in no orderly way, and frees its port.
func discard(m *machine.Machine, app string) {
	units := "'" + app + "@*.service'"
	m.Sh("rm -f /etc/app-rollout/" + app + ".env; systemctl kill -s KILL " + units + "; systemctl stop " + units + "; systemctl reset-failed " + units)
}

// TestReceipt: what a rollout did, well or not, is told in its record, in the
// log, by history and by status: how long each step took, and what became of the
// connections.
func TestReceipt(t *testing.T) {
	t.Parallel()
	m := machine.Boot(t, machine.Options{Install: true, Layers: []string{machine.Apps(t)}})
	env := func(g string, lines ...string) {
		m.Write("/etc/app-rollout/shop.env", shop(append(lines, "SYSTEMD_CLUSTER_DRAIN_SEC=1", "STOP=die", "GENERATION="+g)...), 0o644)
	}
	env("g1")
	deploys(t, m, "shop")
	long := asking(m, "/?delay=10s")
	env("g2")
	said := deploys(t, m, "shop")
	if one := long(); one == nil || one.Answered() != 0 || one.Lost() != 1 {
		t.Errorf("a request of 10 s was to be cut after 1 s: %v", one)
	}
	record := receipt(m, "shop", "current").Rollout
	if record.Cut != 1 || record.Result != "ready" || record.Rung != "steered" || record.Seconds < 2 {
		t.Errorf("the record is %+v", record)
	}
	names := ""
	for _, step := range record.Steps {
		names += step.Name + " "
		if step.Milliseconds <= 0 && step.Name != "forget" {
			t.Errorf("%s took %v ms", step.Name, step.Milliseconds)
		}
	}
	if names != "hold start ready shift watch commit drain stop forget " {
		t.Errorf("the steps are %s", names)
	}
	text := m.Read("/var/lib/app-rollout/shop/current/generation.json")
	for _, field := range []string{`"drained"`, `"cut": 1`, `"migrated"`, `"migrate_failed"`, `"listen_drops"`, `"listen_overflows"`, `"step": "drain"`} {
		if !strings.Contains(text, field) {
			t.Errorf("the record has no %s: %s", field, text)
		}
	}
	if line := "1 connection(s) of shop@1 shop@2 are cut after 1 s"; !strings.Contains(said, line) {
		t.Errorf("nothing says %q:\n%s", line, said)
	}
	told(t, m, 2, "done in [0-9.]+ s, traffic steered, 0 connections drained, 1 cut", "hold start ready shift watch commit drain stop forget")

	// What failed tells the same.
	env("bad", "NO_LISTEN=1", "SYSTEMD_CLUSTER_READY_SEC=5")
	if r := run(m, "shop"); r.Code != 1 {
		t.Errorf("status %d: %s%s", r.Code, r.Out, r.Err)
	}
	told(t, m, 3, "undone in [0-9.]+ s, traffic steered, 0 connections drained, 0 cut", "hold start ready back stop")

	// One that ends in time is drained.
	m.Write("/etc/app-rollout/shop.env", shop("GENERATION=g3", "STOP=die"), 0o644)
	deploys(t, m, "shop")
	long = asking(m, "/?delay=5s")
	m.Write("/etc/app-rollout/shop.env", shop("GENERATION=g4", "STOP=die"), 0o644)
	deploys(t, m, "shop")
	if one := long(); one == nil || one.Lost() != 0 {
		t.Errorf("a request of 5 s, with time to drain: %v", one)
	}
	if record := receipt(m, "shop", "current").Rollout; record.Cut != 0 || record.Drained != 1 {
		t.Errorf("%d drained, %d cut", record.Drained, record.Cut)
	}
}

// told holds that the log, history and status --json say the same of the newest
// rollout: its sum, and each of its steps with how long it took.
func told(t *testing.T, m *machine.Machine, generation int, sum, steps string) {
	t.Helper()
	var took []string
	for _, step := range strings.Fields(steps) {
		took = append(took, step+" [0-9]+")
	}
	each := strings.Join(took, ", ") + " ms"
	m.Must("journalctl", "--sync")
	log := m.Sh(fmt.Sprintf("journalctl -b -o cat APP_ROLLOUT_APP=shop APP_ROLLOUT_GENERATION=%d", generation))
	if line := "(?m)^shop: " + sum + ": " + each + "$"; !regexp.MustCompile(line).MatchString(log) {
		t.Errorf("the log of generation %d has no line %s:\n%s", generation, line, log)
	}

	record := receipt(m, "shop", fmt.Sprint(generation)).Rollout
	history := m.Must("app-rollout", "history", "shop")
	lines := fmt.Sprintf(`(?m)^%d .* %s +%d +%d +%d .*\n  %s$`, generation, record.Rung, record.Drained, record.Cut, record.Migrated, each)
	if !regexp.MustCompile(lines).MatchString(history) {
		t.Errorf("history has no lines %s:\n%s", lines, history)
	}

	var report struct {
		Apps []struct {
			Last struct {
				Generation int
				store.Receipt
			} `json:"last_rollout"`
		}
	}
	text := m.Must("app-rollout", "status", "shop", "--json")
	if err := json.Unmarshal([]byte(text), &report); err != nil {
		t.Fatal(err)
	}
	if last := report.Apps[0].Last; last.Generation != generation || !reflect.DeepEqual(&last.Receipt, record) {
		t.Errorf("status says %s\nwhere the record is %+v", text, record)
	}
	for _, field := range []string{`"migrated"`, `"migrate_failed"`, `"listen_drops"`, `"listen_overflows"`, `"steps"`} {
		if !strings.Contains(text, field) {
			t.Errorf("status has no %s: %s", field, text)
		}
	}
}
