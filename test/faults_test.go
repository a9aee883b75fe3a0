//go:build story

package test

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"app-rollout/test/load"
	"app-rollout/test/machine"
)

// soaking runs all that there is, not the chosen part: `make soak` does.
var soaking = os.Getenv("SOAK") != ""

// A place is one step of a rollout and what makes it last long enough to be
// hit: the steps without that are over in milliseconds, and a fault at the
// record of one hits it or the next.
type place struct {
	step  string
	old   []string // lines of the .env that is up
	new   []string // lines of the one that is rolled out
	wound wound    // without the fault
	long  bool     // a request is always under way that takes longer than the steps before
}

var slowToStop = []string{"STOP=ignore", "SYSTEMD_TIMEOUT_STOP_SEC=1"}

var places = []place{
	{step: "lock", wound: wound{at: "lock"}},
	{step: "freeze", wound: wound{at: "freeze"}},
	{step: "hold", wound: wound{at: "hold"}},
	{step: "start", new: []string{"SYSTEMD_TYPE=notify", "NOTIFY=1", "START_DELAY=1s"}, wound: wound{at: "start", after: 300 * time.Millisecond}},
	{step: "ready", new: []string{"START_DELAY=1s"}, wound: wound{at: "start", after: 600 * time.Millisecond}},
	{step: "shift", wound: wound{at: "shift"}},
	{step: "watch", wound: wound{at: "watch", after: 400 * time.Millisecond}},
	{step: "commit", old: slowToStop, wound: wound{at: "commit"}},
	{step: "drain", long: true, wound: wound{at: "drain", after: 300 * time.Millisecond}},
	{step: "stop", old: slowToStop, wound: wound{at: "stop", after: 400 * time.Millisecond}},
	{step: "forget", wound: wound{at: "stop"}},
	{step: "recover", new: []string{"STOP=ignore", "SYSTEMD_TIMEOUT_STOP_SEC=2"}, wound: wound{at: "watch", again: true}},
}

// back are the places of a rollback: what is rolled out is what was up before.
var back = []place{
	{step: "start", new: []string{"SYSTEMD_TYPE=notify", "NOTIFY=1", "START_DELAY=1s"}, wound: wound{at: "start", after: 300 * time.Millisecond}},
	{step: "watch", wound: wound{at: "watch", after: 400 * time.Millisecond}},
	{step: "commit", old: slowToStop, wound: wound{at: "commit"}},
	{step: "stop", old: slowToStop, wound: wound{at: "stop", after: 400 * time.Millisecond}},
}

// bad are the places at which a new generation that fails is hit, and how it
// fails there. None of them loses a connection by failing.
var bad = []place{
	{step: "start", new: []string{"SYSTEMD_TYPE=notify", "START_DELAY=30s"}, wound: wound{at: "start", after: 300 * time.Millisecond}},
	{step: "ready", new: []string{"NO_LISTEN=1", "SYSTEMD_CLUSTER_READY_SEC=3"}, wound: wound{at: "start", after: 600 * time.Millisecond}},
	{step: "back", new: []string{"SYSTEMD_CLUSTER_HEALTH_PATH=/health", "HEALTH=500", "STOP=ignore", "SYSTEMD_TIMEOUT_STOP_SEC=2", "SYSTEMD_CLUSTER_READY_SEC=1"}, wound: wound{at: "start", after: 1500 * time.Millisecond}},
}

// chosen are the cells of the matrix that are tried each time, and not only by
// `make soak`: each step and each fault is in it.
var chosen = map[string]bool{
	kill + " lock": true, kill + " freeze": true, kill + " hold": true, kill + " start": true, kill + " ready": true, kill + " shift": true,
	kill + " watch": true, kill + " commit": true, kill + " drain": true, kill + " stop": true, kill + " forget": true, kill + " recover": true,
	term + " ready": true, term + " watch": true, term + " drain": true, stop + " watch": true,
	kill + " ready" + fails: true, kill + " back" + fails: true, term + " ready" + fails: true,
	kill + " watch" + goesBack: true, term + " commit" + goesBack: true,
	cut + " start": true, cut + " watch": true, cut + " commit": true, cut + " drain": true, cut + " forget": true, cut + " ready" + fails: true,
	cut + " commit" + goesBack: true,
	reboot + " watch":          true,
}

// What a run is like that is no rollout of something good.
const (
	fails    = ", bad"
	goesBack = ", rollback"
)

// TestFaults: the helper is killed, told to end, or stopped, and the machine cut
// off or rebooted, at every step of a rollout. Clients notice nothing but that
// the machine is gone; afterwards one generation is there, whole, and nothing
// else.
func TestFaults(t *testing.T) {
	for i, faults := range [][]string{{kill, term, stop}, {cut, reboot}} {
		t.Run([]string{"helper", "power"}[i], func(t *testing.T) {
			t.Parallel()
			v := newVictim(t, "bookworm")
			for _, fault := range faults {
				for _, p := range places {
					v.cell(fault, p, "")
				}
				for _, p := range bad {
					v.cell(fault, p, fails)
				}
				for _, p := range back {
					v.cell(fault, p, goesBack)
				}
			}
			t.Logf("%d faults, %d connections, %d lost", v.inflicted, v.answered+v.lost, v.lost)
		})
	}
}

func (v *victim) cell(fault string, p place, like string) {
	v.t.Helper()
	what := fault + " " + p.step + like
	if !soaking && !chosen[what] || p.wound.again && fault != kill {
		return // only who is killed leaves something to recover from
	}
	began, before := time.Now(), *v
	w := p.wound
	w.fault = fault
	now := v.next()
	if like == goesBack {
		now = v.deploy(p.new...)
		w.unit = "app-rollout-rollback@shop.service"
	}
	old := v.up
	if p.old != nil || like == goesBack {
		old = v.deploy(p.old...)
	}
	client := v.client()
	var long *machine.Load
	if p.long {
		long = v.m.Load(load.Options{Addr: "127.0.0.1:8080", Workers: 1, Path: fmt.Sprintf("/?delay=%ds", 4+v.size/8)})
	}
	if like != goesBack {
		v.write(now, p.new...)
	}
	v.wounds(w)
	allowed := []string{old}
	if like != fails {
		allowed = append(allowed, now)
	}
	down := fault == cut || fault == reboot
	if down {
		if fault == reboot {
			v.count(what+": until then", client, 0)
			v.m.Reboot()
		} else {
			// The clients' network is gone with the machine.
			if _, err := client.Client.Stop(); err != nil {
				v.t.Log(err)
			}
			v.m.PowerOn()
		}
		v.settles()
		v.whole(what+": after the boot", allowed...)
		client = v.client()
	}
	v.settles()
	if !w.again {
		v.whole(what+": after it", allowed...)
	}
	v.deploy()
	v.whole(what+": after one more run", v.up)
	v.count(what, client, 0)
	if long != nil && !down {
		most := 0
		if fault != kill {
			most = 1 // whoever ends a run does not wait for it: it is cut after a second
		}
		v.count(what+", the long request", long, most)
	}
	v.t.Logf("%-30s %d, %d connections, %d lost, %.1f s", what, v.inflicted-before.inflicted,
		v.answered+v.lost-before.answered-before.lost, v.lost-before.lost, time.Since(began).Seconds())
}

// TestClosedTerminal: what a person follows goes on when his terminal is closed,
// or his command killed.
func TestClosedTerminal(t *testing.T) {
	t.Parallel()
	// Who ran the test may have had SIGHUP ignored, which is inherited; a signal
	// that is caught is not.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	defer signal.Reset(syscall.SIGHUP)
	v := newVictim(t, "bookworm")
	first := v.up
	client := v.client()
	for _, c := range []struct{ command, service, signal, want string }{
		{"run", "app-rollout@shop.service", "HUP", "v2"},
		{"rollback", "app-rollout-rollback@shop.service", "HUP", first},
		{"run", "app-rollout@shop.service", "KILL", "v3"},
		{"rollback", "app-rollout-rollback@shop.service", "KILL", first},
	} {
		if c.command == "run" {
			v.write(v.next())
		}
		ended := make(chan machine.Result, 1)
		go func() { ended <- v.m.Run(context.Background(), "app-rollout", c.command, "shop") }()
		v.m.Wait("the watch", 20*time.Second, func() bool { return strings.Contains(v.m.Property(c.service, "StatusText"), "watching") })
		v.m.Sh("pkill -" + c.signal + " -x app-rollout")
		if r := <-ended; r.Code < 128 {
			t.Errorf("%s: the command ends with status %d, not of SIG%s: %s", c.command, r.Code, c.signal, r.Err)
		}
		v.settles()
		v.whole(c.command+", SIG"+c.signal, c.want)
	}
	v.count("commands that were killed", client, 0)
}
