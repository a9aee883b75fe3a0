//go:build story

package test

import (
	"os"
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
	long  bool     // a request of 4 s is always under way
}

var places = []place{
	{step: "lock", wound: wound{at: "lock"}},
	{step: "freeze", wound: wound{at: "freeze"}},
	{step: "hold", wound: wound{at: "hold"}},
	{step: "start", new: []string{"SYSTEMD_TYPE=notify", "NOTIFY=1", "START_DELAY=1s"}, wound: wound{at: "start", after: 300 * time.Millisecond}},
	{step: "ready", new: []string{"START_DELAY=1s"}, wound: wound{at: "start", after: 600 * time.Millisecond}},
	{step: "shift", wound: wound{at: "shift"}},
	{step: "watch", wound: wound{at: "watch", after: 400 * time.Millisecond}},
	{step: "commit", wound: wound{at: "commit"}},
	{step: "drain", long: true, wound: wound{at: "drain", after: 300 * time.Millisecond}},
	{step: "stop", old: []string{"STOP=ignore", "SYSTEMD_TIMEOUT_STOP_SEC=1"}, wound: wound{at: "stop", after: 400 * time.Millisecond}},
	{step: "forget", wound: wound{at: "stop", after: 60 * time.Millisecond}},
	// The second kill may find that recover has ended: it takes milliseconds.
	{step: "recover", wound: wound{at: "watch", again: true, late: true}},
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
	kill + " ready, bad": true, kill + " back, bad": true, term + " ready, bad": true,
	cut + " start": true, cut + " watch": true, cut + " commit": true, cut + " drain": true, cut + " forget": true, cut + " ready, bad": true,
}

// TestFaults: the helper is killed, told to end, or stopped, and the power is
// cut, at every step of a rollout. Clients notice nothing but a power cut;
// afterwards one generation is there, whole, and nothing else.
func TestFaults(t *testing.T) {
	for i, faults := range [][]string{{kill, term, stop}, {cut}} {
		t.Run([]string{"helper", "power"}[i], func(t *testing.T) {
			t.Parallel()
			v := newVictim(t, "bookworm")
			for _, fault := range faults {
				for _, p := range places {
					v.cell(fault, p, true)
				}
				for _, p := range bad {
					v.cell(fault, p, false)
				}
			}
			t.Logf("%d faults, %d connections, %d lost", v.inflicted, v.answered+v.lost, v.lost)
		})
	}
}

func (v *victim) cell(fault string, p place, good bool) {
	v.t.Helper()
	what := fault + " " + p.step
	if !good {
		what += ", bad"
	}
	if !soaking && !chosen[what] || p.wound.again && fault != kill {
		return // only who is killed leaves something to recover from
	}
	began := time.Now()
	if p.old != nil {
		v.deploy(p.old...)
	}
	old := v.up
	client := v.client()
	var long *machine.Load
	if p.long {
		long = v.m.Load(load.Options{Addr: "127.0.0.1:8080", Workers: 1, Path: "/?delay=4s"})
	}
	now := v.next()
	v.write(now, p.new...)
	w := p.wound
	w.fault = fault
	v.wounds(w)
	allowed := []string{old}
	if good {
		allowed = append(allowed, now)
	}
	if fault == cut {
		// The clients' network is gone with the machine.
		if _, err := client.Client.Stop(); err != nil {
			v.t.Log(err)
		}
		v.m.PowerOn()
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
	if long != nil && fault != cut {
		most := 0
		if fault != kill {
			most = 1 // whoever ends a run does not wait for it: it is cut after a second
		}
		v.count(what+", the long request", long, most)
	}
	v.t.Logf("%-30s %.1f s", what, time.Since(began).Seconds())
}
