//go:build story

package test

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"testing"
	"time"

	"app-rollout/test/machine"
)

// soaking: the whole matrix is run, and not only what `make test` always runs.
var soaking = os.Getenv("SOAK") != ""

// A fault is something that may happen to the helper or to the machine at any moment.
type fault struct {
	name     string
	do       string                   // a shell command; $unit is the service of the run
	powerOff func(m *machine.Machine) // waits until the machine is off; nil if it stays up
}

// The faults of the matrix. A new one is a line here. `make soak` inflicts it at every
// place, `make test` where a place names it in always.
var (
	kill   = newFault("SIGKILL", `systemctl kill --signal=KILL "$unit"`, nil)
	bare   = newFault("SIGKILL, and the record is gone", `rm -r /run/app-rollout; systemctl kill --signal=KILL "$unit"`, nil)
	term   = newFault("SIGTERM", `systemctl kill --signal=TERM "$unit"`, nil)
	ended  = newFault("systemctl stop", `systemctl stop --no-block "$unit"; while [ "$(systemctl show --value -p ActiveState "$unit")" = activating ]; do :; done`, nil)
	cut    = newFault("power cut", "", (*machine.Machine).Kill)
	reboot = newFault("reboot", "systemctl --no-block reboot", (*machine.Machine).WaitOff)
)

// faults are all of them, in the order above.
var faults []*fault

func newFault(name, do string, powerOff func(m *machine.Machine)) *fault {
	f := &fault{name, do, powerOff}
	faults = append(faults, f)
	return f
}

// A place is a moment in a run at which faults are inflicted.
type place struct {
	name   string
	at     step
	until  string        // the condition that a fault waits for in the step; "" for none
	after  time.Duration // how long it waits after that
	old    []string      // lines of the running version's .env
	new    []string      // lines of the new version's; some make the step last
	inHand bool          // an old instance has a request in hand all the while
	again  bool          // the recovery from the fault suffers it too
	last   bool          // the run has only one record to write there, which the gate keeps
	always []*fault      // the faults that `make test` inflicts too
}

var (
	slowToStop  = []string{"STOP=ignore", "SYSTEMD_TIMEOUT_STOP_SEC=1"}
	slowToStart = []string{"SYSTEMD_TYPE=notify", "NOTIFY=1", "START_DELAY=2s"}
	longWatch   = []string{"SYSTEMD_CLUSTER_WATCH_SEC=3"}
)

// places are the places of a rollout that would succeed.
var places = []place{
	{name: "lock", at: atLock, always: []*fault{kill}},
	{name: "freeze", at: atFreeze, always: []*fault{kill}},
	{name: "hold", at: atHold, always: []*fault{kill}},
	{name: "start", at: atStart, until: someStart, new: slowToStart, always: []*fault{kill, cut}},
	{name: "ready", at: atStart, until: allActive, new: []string{"START_DELAY=2s"}, always: []*fault{kill, bare, term}},
	{name: "shift", at: atShift, always: []*fault{kill}},
	{name: "watch", at: atWatch, after: 400 * time.Millisecond, new: longWatch, always: []*fault{kill, bare, term, ended, cut, reboot}},
	{name: "commit", at: atCommit, old: slowToStop, always: []*fault{kill, bare, cut}},
	{name: "drain", at: atDrain, inHand: true, old: []string{"SYSTEMD_TIMEOUT_STOP_SEC=2"}, always: []*fault{kill, term, cut}},
	{name: "stop", at: atStop, until: someStop, old: slowToStop, always: []*fault{kill}},
	{name: "forget", at: atStop, until: onlyNewLeft, last: true, always: []*fault{kill, cut}},
	{name: "recover", at: atWatch, again: true, new: []string{"STOP=ignore", "SYSTEMD_TIMEOUT_STOP_SEC=2"}, always: []*fault{kill}},
}

// placesBack are the places of a rollback. It rolls out what was up before.
var placesBack = []place{
	{name: "start", at: atStart, until: someStart, new: slowToStart},
	{name: "watch", at: atWatch, after: 400 * time.Millisecond, new: longWatch, always: []*fault{kill}},
	{name: "commit", at: atCommit, old: slowToStop, always: []*fault{term, cut}},
	{name: "stop", at: atStop, until: someStop, old: slowToStop},
}

// placesAgain are the places of a restart of what is up, whatever the .env asks for.
var placesAgain = []place{
	{name: "start", at: atStart, until: someStart, new: slowToStart},
	{name: "watch", at: atWatch, after: 400 * time.Millisecond, new: longWatch, always: []*fault{kill}},
	{name: "commit", at: atCommit, new: slowToStop, always: []*fault{kill}},
	{name: "stop", at: atStop, until: someStop, new: slowToStop},
}

// placesBad are the places of rollouts that fail. Their failing loses no connection.
var placesBad = []place{
	{name: "start", at: atStart, until: someStart, new: []string{"SYSTEMD_TYPE=notify", "START_DELAY=30s"}},
	{name: "ready", at: atStart, until: allActive, new: []string{"NO_LISTEN=1", "SYSTEMD_CLUSTER_READY_SEC=5"}, always: []*fault{kill, term, cut}},
	{name: "back", at: atStart, until: someStop, new: []string{"SYSTEMD_CLUSTER_HEALTH_PATH=/health", "HEALTH=500", "STOP=ignore", "SYSTEMD_TIMEOUT_STOP_SEC=2", "SYSTEMD_CLUSTER_READY_SEC=1"}, always: []*fault{kill}},
}

// A kind is a kind of run.
type kind struct {
	name   string
	unit   string // its service
	places []place
}

var (
	rollout  = &kind{"rollout", "app-rollout@shop.service", places}
	bad      = &kind{"rollout that fails", "app-rollout@shop.service", placesBad}
	rollback = &kind{"rollback", "app-rollout-rollback@shop.service", placesBack}
	restart  = &kind{"restart", "app-rollout-restart@shop.service", placesAgain}
)

// TestFaults inflicts every fault at every step of a run. Clients notice nothing,
// except that the machine is gone; afterwards exactly one generation is there, whole,
// and nothing else.
func TestFaults(t *testing.T) {
	for name, down := range map[string]bool{"helper": false, "power": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVictim(t)
			for _, f := range faults {
				if (f.powerOff != nil) != down {
					continue
				}
				before, row := *v, "| "+f.name+" |"
				for _, k := range []*kind{rollout, bad, rollback, restart} {
					already := v.inflicted
					for _, p := range k.places {
						v.cell(f, k, p)
					}
					row += fmt.Sprintf(" %d |", v.inflicted-already)
				}
				// A row of the table in RELIABILITY.md, if the whole matrix is run.
				t.Logf("%s %d | %d |", row, v.answered+v.lost-before.answered-before.lost, v.lost-before.lost)
			}
			t.Logf("%d faults, %d connections, %d lost", v.inflicted, v.answered+v.lost, v.lost)
		})
	}
}

// cell inflicts one fault at one place of one kind of run. The test fails if it does
// not get there.
func (v *victim) cell(f *fault, k *kind, p place) {
	v.t.Helper()
	if !soaking && !slices.Contains(p.always, f) || p.again && f != kill {
		return // only a helper that is killed leaves something to recover from
	}
	what := fmt.Sprintf("%s in the step %s of a %s", f.name, p.name, k.name)
	v.inTime(what, func() bool { return v.inflict(what, f, k, p) })
}

// inTime tries something until it comes before its step is over. It fails the test
// after four tries.
func (v *victim) inTime(what string, try func() bool) {
	v.t.Helper()
	for range 4 {
		began, before := time.Now(), *v
		hit := try()
		v.t.Logf("%-50s in time: %t, %d connections, %d lost, %.1f s", what, hit,
			v.answered+v.lost-before.answered-before.lost, v.lost-before.lost, time.Since(began).Seconds())
		if hit {
			return
		}
	}
	v.t.Errorf("%s: was always too late", what)
}

func (v *victim) inflict(what string, f *fault, k *kind, p place) (hit bool) {
	v.t.Helper()
	now := v.next()
	if k == rollback {
		now = v.deploy(p.new...)
	}
	if k == restart {
		v.deploy(p.new...)
		now = v.next()
	}
	old := v.up
	if p.old != nil || k == rollback {
		old = v.deploy(p.old...)
	}
	client := v.client()
	var inHand *request
	if p.inHand {
		inHand = v.openRequest()
	}
	if k != rollback {
		v.write(now, p.new...)
	}
	w := wound{at: p.at, until: p.until, after: p.after, unit: k.unit, do: f.do, powerOff: f.powerOff, again: p.again, last: p.last}
	if f.powerOff != nil {
		w.before = func() { v.count(what+": until then", client) }
	}
	hit = v.wounds(now, w)
	if inHand != nil && f == kill {
		inHand.answer()
	}
	allowed := []string{old}
	// After a restart nothing but a boot rolls out what the .env asks for.
	if k != bad && (k != restart || f.powerOff != nil) {
		allowed = append(allowed, now)
	}
	if f.powerOff != nil {
		if hit {
			v.PowerOn()
		}
		v.settles()
		v.whole(what+": the machine is up again", allowed...)
		client = v.client()
	}
	v.settles()
	if !p.again {
		v.whole(what+": after it", allowed...)
	}
	v.deploy()
	v.whole(what+": after one more run", v.up)
	v.count(what, client)
	if inHand != nil && f.powerOff == nil {
		inHand.answer()
		most := 0
		if f != kill {
			most = 1 // a run that is told to end waits only one second for it
		}
		v.countMost(what+", the request in hand", inHand.client, most)
	}
	return hit
}

// TestClosedTerminal: a rollout that a person follows goes on when the terminal is
// closed or the command is killed.
func TestClosedTerminal(t *testing.T) {
	t.Parallel()
	// If SIGHUP is ignored here, the command inherits that. It does not inherit that a
	// signal is caught.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	defer signal.Reset(syscall.SIGHUP)
	v := newVictim(t)
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
		go func() { ended <- v.Run(context.Background(), "app-rollout", c.command, "shop") }()
		v.untilOf(c.service, "watching")
		v.Sh("pkill -" + c.signal + " -x app-rollout")
		if r := <-ended; r.Code < 128 {
			t.Errorf("%s: the command ends with status %d, not of SIG%s: %s", c.command, r.Code, c.signal, r.Err)
		}
		v.settles()
		v.whole(c.command+", SIG"+c.signal, c.want)
	}
	v.count("commands that were killed", client)
}
