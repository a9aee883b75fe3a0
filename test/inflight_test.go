//go:build story

package test

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"app-rollout/test/load"
	"app-rollout/test/machine"
)

// A request is one long request.
type request struct {
	client *machine.Load
	answer func() // lets the app answer a request that openRequest has made
}

// ask makes one request, and returns when an instance has it in hand. The client's
// Stop waits until it has ended.
func (a *app) ask(path string) *request {
	a.t.Helper()
	c := a.Load(load.Options{Addr: port, Workers: 1, Path: path, Timeout: 3 * time.Minute, Once: true})
	// A connection that is there at both looks is this one: those of other clients are
	// short.
	a.Wait("the request", 30*time.Second, func() bool {
		return a.Run(context.Background(), "bash", "-c", `look() { ss -Htn state established sport = :8080 | sort; }
first=$(look); sleep 0.5; comm -12 <(echo "$first") <(look) | grep -q .`).Code == 0
	})
	return &request{client: c}
}

// openRequest asks the sample app for an answer that comes only when the story calls
// answer.
func (a *app) openRequest() *request {
	a.t.Helper()
	a.Sh("rm -f /run/answer")
	r := a.ask("/?until=/run/answer")
	r.answer = func() { a.Sh("touch /run/answer") }
	return r
}

// TestRequestInFlight: a long request on an old instance is answered in full, and
// nobody else waits for it. A prefork server that is told to stop keeps its listener
// until its busy workers are done, so a connection that is sent there waits.
func TestRequestInFlight(t *testing.T) {
	t.Parallel()
	shop := newShop(t)
	for i, c := range []struct{ name, exec string }{
		{"gunicorn", gunicorn},
		{"go", "/opt/apps/server"},
	} {
		app := shop.other(t, "shop"+strconv.Itoa(i))
		lines := []string{"SYSTEMD_EXEC_START=" + c.exec, "SYSTEMD_CLUSTER_WATCH_SEC=0"}
		app.deploy(append(lines, "GENERATION=g1")...)
		const takes = 10 * time.Second
		long := app.ask("/?delay=" + takes.String())
		others := app.busy()
		app.deploy(append(lines, "GENERATION=g2")...)
		rest := others.Stop()
		nothingLost(t, rest)
		app.inOrder(rest.Answers)
		// Without a drain the stop would come at the beginning of the long request, and a
		// client that waited for it would wait for most of it.
		if rest.Max > takes/4 {
			t.Errorf("%s: a client waited %v, for a request of %v that was another's", c.name, rest.Max, takes)
		}
		one := long.client.Stop()
		if one.Lost() > 0 || one.Answered() != 1 {
			t.Fatalf("%s: the long request: %v", c.name, one)
		}
		onlyFrom(t, one, "g1")
		app.discard()
	}
}

// gunicorn is a command that is told to share the port, with two workers.
const gunicorn = "/usr/bin/gunicorn --chdir /opt/apps --reuse-port -b 127.0.0.1:8080 -w 2 wsgi:app"

// TestBadGenerationsUnderLoad: clients notice nothing of a new generation that fails
// before it gets connections. One that dies later loses the requests that it has in
// hand, and no others.
func TestBadGenerationsUnderLoad(t *testing.T) {
	t.Parallel()
	shop := newShop(t)
	shop.deploy("GENERATION=good")
	client := shop.busy()
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
		{"exits before it listens", []string{"EXIT_AFTER=500ms", "START_DELAY=5s"}, "exited with status 1"},
		// systemd may have started it again before the helper looks.
		{"exits before it listens, and is back at once", []string{"EXIT_AFTER=500ms", "START_DELAY=5s", "SYSTEMD_RESTART_SEC=100ms"}, "; see: journalctl -b -u shop@"},
	} {
		shop.fails(c.name, c.why, append(c.env, "GENERATION=bad", "SYSTEMD_CLUSTER_READY_SEC=5")...)
		shop.want("shop@1 shop@2")
	}
	report := client.Stop()
	nothingLost(t, report)
	onlyFrom(t, report, "good")

	// Without a proxy that could ask again, a process that dies loses the requests that
	// it has in hand. Each of the two new instances dies once.
	for _, c := range []struct {
		name string
		env  []string
	}{
		{"exits on the first real request", []string{"EXIT_ON=1"}},
		{"is ready, then restarts", []string{"EXIT_LATER=2s", "SYSTEMD_RESTART_SEC=100ms", "SYSTEMD_CLUSTER_WATCH_SEC=30"}},
	} {
		client = shop.busy()
		shop.fails(c.name, "while it was watched", append(c.env, "GENERATION=bad")...)
		shop.more(client, 100)
		report = client.Stop()
		t.Logf("%s: %v", c.name, report)
		if report.Lost() > 2*8 {
			t.Errorf("%s: %d lost, with 8 requests in hand of 2 instances at most", c.name, report.Lost())
		}
		died := shop.lastTime("-t", "systemd", "-g", "^shop@.*: Main process exited")
		for _, f := range report.Failures {
			if f.Start > died.UnixNano() {
				t.Errorf("%s: lost after the new instances were dead: %+v", c.name, f)
			}
		}
		shop.want("shop@1 shop@2")
		shop.answersOnly("good")
	}
}

// lastTime is the time of the last record of this boot that matches.
func (a *app) lastTime(match ...string) time.Time {
	a.t.Helper()
	out := a.journal(append([]string{"-o", "json", "-n", "1"}, match...)...)
	var record struct {
		Time string `json:"__REALTIME_TIMESTAMP"` // microseconds since 1970
	}
	if err := json.Unmarshal([]byte(out), &record); err != nil {
		a.t.Fatalf("%v: %s", err, out)
	}
	us, err := strconv.ParseInt(record.Time, 10, 64)
	if err != nil {
		a.t.Fatal(err)
	}
	return time.UnixMicro(us)
}

// TestAsksTheInstance: the helper asks each new instance by itself, though all share
// the port. If one of them is ill, the error names that one.
func TestAsksTheInstance(t *testing.T) {
	t.Parallel()
	shop := newShop(t)
	shop.Write("/opt/apps/one-is-ill", "#!/bin/sh\n[ $SYSTEMD_INSTANCE != \"$ILL\" ] || export HEALTH=500\nexec /opt/apps/server\n", 0o755)
	lines := func(ill int) []string {
		return []string{"SYSTEMD_EXEC_START=/opt/apps/one-is-ill", "SYSTEMD_CLUSTER_NODES=3",
			"SYSTEMD_CLUSTER_HEALTH_PATH=/health", "SYSTEMD_CLUSTER_READY_SEC=3", "ILL=" + strconv.Itoa(ill)}
	}
	shop.deploy(lines(0)...)
	for round := range 3 {
		first := 4 + 3*round // what is rolled back leaves its numbers used
		ill := first + round
		why := fmt.Sprintf("shop@%d.service was not ready after 3 s: it answers GET /health with status 500 on 127.0.0.1:8080", ill)
		r := shop.fails("one of three", why, lines(ill)...)
		for n := first; n < first+3; n++ {
			if n != ill && strings.Contains(r.Err, fmt.Sprintf("shop@%d.service", n)) {
				t.Errorf("shop@%d is named too: %s", n, r.Err)
			}
		}
		shop.want("shop@1 shop@2 shop@3")
	}
}
