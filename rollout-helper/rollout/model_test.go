package rollout

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"app-rollout/units"
	"app-rollout/units/store"
)

// A scenario is one kind of rollout, to be tried with every fault at every
// call that it makes of systemd and of the kernel.
type scenario struct {
	name    string
	start   []string // lines of the .env that is up before; nil: nothing is
	asks    []string // lines of the .env that is asked for; nil: it is gone
	prepare func(t *testing.T, w *world)
	act     func(m *Machine, ctx context.Context, app string) error // nil: Swap
	need    int                                                     // so many instances of a ready generation serve at every moment
	fails   bool                                                    // without any fault too
	boots   bool                                                    // it begins with a boot
	late    bool                                                    // which found no store, and started nothing
	restart bool                                                    // the generation stays
	before  []func(t *testing.T, w *world)                          // what was done since it is up

	base *world
}

var scenarios = []scenario{
	{name: "first", asks: []string{""}},
	{name: "first, fails", asks: []string{"BEHAVE=deaf"}, fails: true},
	{name: "deploy", start: []string{""}, asks: []string{"NEW=1"}, need: 2},
	{name: "late", start: []string{""}, asks: []string{"BEHAVE=late"}, need: 2},
	{name: "exits", start: []string{""}, asks: []string{"BEHAVE=exits"}, need: 2, fails: true},
	{name: "deaf", start: []string{""}, asks: []string{"BEHAVE=deaf", "SYSTEMD_CLUSTER_READY_SEC=1"}, need: 2, fails: true},
	{name: "elsewhere", start: []string{""}, asks: []string{"BEHAVE=elsewhere", "SYSTEMD_CLUSTER_READY_SEC=1"}, need: 2, fails: true},
	{name: "beside", start: []string{""}, asks: []string{"BEHAVE=beside"}, need: 2, fails: true},
	{name: "dies", start: []string{""}, asks: []string{"BEHAVE=dies"}, need: 2, fails: true},
	{name: "mute", start: []string{""}, asks: []string{"BEHAVE=mute", "SYSTEMD_CLUSTER_READY_SEC=1"}, need: 2, fails: true},
	{name: "stalls", start: []string{""}, asks: []string{"BEHAVE=stalls"}, need: 2, fails: true},
	{name: "more", start: []string{""}, asks: []string{"SYSTEMD_CLUSTER_NODES=3"}, need: 2},
	{name: "fewer", start: []string{"SYSTEMD_CLUSTER_NODES=3"}, asks: []string{"SYSTEMD_CLUSTER_NODES=1"}, need: 1},
	{name: "service", start: []string{"SYSTEMD_CLUSTER_MODE=0"}, asks: []string{"SYSTEMD_CLUSTER_MODE=0", "NEW=1"}},
	{name: "service, fails", start: []string{"SYSTEMD_CLUSTER_MODE=0"}, asks: []string{"SYSTEMD_CLUSTER_MODE=0", "BEHAVE=dies"}, fails: true},
	{name: "service to instances", start: []string{"SYSTEMD_CLUSTER_MODE=0"}, asks: []string{"NEW=1"}, need: 1},
	{name: "service to instances, fails", start: []string{"SYSTEMD_CLUSTER_MODE=0"}, asks: []string{"BEHAVE=dies"}, need: 1, fails: true},
	{name: "instances to service", start: []string{""}, asks: []string{"SYSTEMD_CLUSTER_MODE=0"}, need: 1},
	{name: "instances to service, fails", start: []string{""}, asks: []string{"SYSTEMD_CLUSTER_MODE=0", "BEHAVE=dies"}, need: 1, fails: true},
	{name: "unsteered", start: []string{""}, asks: []string{"NEW=1"}, need: 2, prepare: unsteered},
	{name: "unsteered, fails", start: []string{""}, asks: []string{"BEHAVE=dies"}, need: 2, prepare: unsteered, fails: true},
	{name: "roll back", start: []string{""}, asks: []string{"NEW=1"}, need: 2, prepare: deployed, act: (*Machine).Rollback},
	{name: "restart", start: []string{""}, asks: []string{"NEW=1"}, need: 2, act: (*Machine).Restart, restart: true},
	{name: "restart, fails", start: []string{""}, asks: []string{"NEW=1"}, need: 2, prepare: broken, act: (*Machine).Restart, restart: true, fails: true},
	{name: "restart of a service", start: []string{"SYSTEMD_CLUSTER_MODE=0"}, asks: []string{"SYSTEMD_CLUSTER_MODE=0", "NEW=1"}, act: (*Machine).Restart, restart: true},
	{name: "booted, scaled, restart", start: []string{""}, before: append(booted, scaled), asks: []string{"NEW=1"}, need: 2, act: (*Machine).Restart, restart: true},
	{name: "release", start: []string{""}, asks: []string{"NEW=1", releases}, need: 2},
	{name: "release, fails", start: []string{""}, asks: []string{"NEW=1", releases, "RELEASE=exits"}, need: 2, fails: true},
	{name: "release of a service", start: []string{"SYSTEMD_CLUSTER_MODE=0"}, asks: []string{"SYSTEMD_CLUSTER_MODE=0", "NEW=1", releases}},
	{name: "gone", start: []string{""}},
	{name: "boot, never rolled out", asks: []string{""}, boots: true, act: (*Machine).Boot},
	{name: "boot, as it was", start: []string{""}, asks: []string{""}, need: 2, boots: true, act: (*Machine).Boot},
	{name: "boot, changed", start: []string{""}, asks: []string{"NEW=1"}, need: 2, boots: true, act: (*Machine).Boot},
	{name: "boot, the store came late", start: []string{""}, asks: []string{"NEW=1"}, boots: true, late: true, act: (*Machine).Boot},
	{name: "booted, deploy", start: []string{""}, before: booted, asks: []string{"NEW=1"}, need: 2},
	{name: "booted, exits", start: []string{""}, before: booted, asks: []string{"BEHAVE=exits"}, need: 2, fails: true},
	{name: "booted, scaled, more", start: []string{""}, before: append(booted, scaled), asks: []string{"SYSTEMD_CLUSTER_NODES=4"}, need: 2},
	{name: "booted, scaled, deploy", start: []string{""}, before: append(booted, scaled), asks: []string{"NEW=1"}, need: 2},
	{name: "booted, service to instances", start: []string{"SYSTEMD_CLUSTER_MODE=0"}, before: booted, asks: []string{"NEW=1"}, need: 1},
	{name: "deployed, fewer", start: []string{"SYSTEMD_CLUSTER_NODES=3"}, before: []func(*testing.T, *world){deployed}, asks: []string{"SYSTEMD_CLUSTER_NODES=1"}, need: 1},
	{name: "deployed, service to instances", start: []string{"SYSTEMD_CLUSTER_MODE=0"}, before: []func(*testing.T, *world){deployed}, asks: []string{"NEW=1"}, need: 1},
	{name: "deployed, gone", start: []string{""}, before: []func(*testing.T, *world){deployed}},
	{name: "boot, changed for the worse", start: []string{""}, asks: []string{"BEHAVE=dies"}, need: 2, boots: true, act: (*Machine).Boot, fails: true},
}

var booted = []func(*testing.T, *world){func(t *testing.T, w *world) {
	w.reboot()
	if err := w.machine().Boot(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
}}

func scaled(t *testing.T, w *world) {
	w.env(watchSec, "SYSTEMD_CLUSTER_NODES=3")
	deployed(t, w)
}

func unsteered(_ *testing.T, w *world) { w.unsteer = "no BPF here" }

// broken breaks what lies below the app.
func broken(_ *testing.T, w *world) { w.breaks("dies") }

func deployed(t *testing.T, w *world) {
	t.Helper()
	if err := w.machine().Swap(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
}

// releases gives the app a release command.
const releases = "SYSTEMD_CLUSTER_RELEASE_COMMAND=/usr/bin/shop"

// watchSec keeps the loops short in which nothing new happens.
const watchSec = "SYSTEMD_CLUSTER_WATCH_SEC=1"

// world is the state in which the scenario begins: one is made, all others are
// copies of it.
func (s scenario) world(t *testing.T) *world {
	t.Helper()
	w := s.base.copy(t)
	w.check = func() { w.holds(t, s.need) }
	return w
}

// prepared makes the first one.
func (s scenario) prepared(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	if s.start != nil {
		w.env(append([]string{watchSec}, s.start...)...)
		deployed(t, w)
	}
	for _, do := range s.before {
		do(t, w)
	}
	s.ask(w)
	if s.prepare != nil {
		s.prepare(t, w)
	}
	if s.boots {
		w.reboot()
	}
	if s.late {
		w.units = map[string]*fakeUnit{}
	}
	for _, u := range w.units {
		u.proved, u.pending, u.started = true, time.Time{}, time.Time{}
	}
	return w
}

// ask makes the .env what the scenario asks for.
func (s scenario) ask(w *world) {
	if s.asks == nil {
		if err := os.Remove(w.layout.Env("shop")); err != nil {
			w.t.Fatal(err)
		}
		return
	}
	w.env(append([]string{watchSec}, s.asks...)...)
}

func (s scenario) do(ctx context.Context, w *world) error {
	if s.act == nil {
		return w.machine().Swap(ctx, "shop")
	}
	return s.act(w.machine(), ctx, "shop")
}

// holds checks the package's invariants 1 and 2 at one moment, and that a
// daemon-reload at that moment would change nothing that runs.
func (w *world) holds(t *testing.T, need int) {
	t.Helper()
	if t.Failed() {
		return // the first moment says it all
	}
	var listen, reached []*fakeUnit
	ready := 0
	for _, u := range w.units {
		if u.Active != "active" || u.behave == "deaf" || u.behave == "elsewhere" || u.behave == "beside" {
			continue
		}
		listen = append(listen, u)
		if len(w.led) > 0 && strings.Contains(strings.Join(w.led, " ")+" ", u.Name+" ") {
			reached = append(reached, u)
		}
		if !u.proved {
			u.proved = w.recorded(u)
		}
		if u.proved {
			ready++
		}
	}
	if len(reached) == 0 {
		reached = listen // without a socket to pick, the kernel picks any
	}
	where := fmt.Sprintf("at call %d of %v", len(w.calls), tail(w.calls))
	if ready < need {
		t.Errorf("%s only %d ready instances are up, not %d", where, ready, need)
	}
	if need == 0 {
		return
	}
	for name, u := range w.units {
		if !u.Live() {
			continue
		}
		m := generationOf.FindStringSubmatch(w.text(name))
		if m == nil || m[1] == fmt.Sprint(u.generation) {
			continue
		}
		if n, _ := strconv.Atoi(m[1]); !w.same(n, u.generation) {
			t.Errorf("%s a daemon-reload would make %s one of generation %d, it is of %d", where, name, n, u.generation)
		}
	}
	if w.unsteer != "" {
		return
	}
	for _, u := range reached {
		if !u.proved {
			t.Errorf("%s connections reach %s, which has not proved itself; steered to %v", where, u.Name, w.led)
		}
	}
}

// recorded says whether a unit is one of the instances of the current generation. In a
// restart the new ones are of that generation too, but not yet among its instances.
func (w *world) recorded(u *fakeUnit) bool {
	link, _ := os.Readlink(w.layout.State("shop") + "/current")
	if link != fmt.Sprint("generations/", u.generation) {
		return false
	}
	given, err := store.Of(w.layout, "shop").Instances()
	numbers := given.Generations[u.generation]
	i, _ := units.ParseInstance(u.Name)
	return err == nil && (len(numbers) == 0 || slices.Contains(numbers, i.Number))
}

// same says whether two generations differ in nothing but their size.
func (w *world) same(a, b int) bool {
	x, err := store.Of(w.layout, "shop").Generation(a)
	y, e := store.Of(w.layout, "shop").Generation(b)
	return err == nil && e == nil && x.Unsized == y.Unsized
}

func tail(calls []string) []string { return calls[max(0, len(calls)-8):] }

// invocations are the starts of the units that run, to see whether they were
// restarted.
func (w *world) invocations() map[string]string {
	m := map[string]string{}
	for name, u := range w.units {
		if u.Live() {
			m[name] = u.Invocation
		}
	}
	return m
}

// settled checks that exactly one generation is there, whole, and nothing else.
func (w *world) settled(t *testing.T, s scenario) {
	t.Helper()
	g, err := store.Of(w.layout, "shop").Current()
	if err != nil {
		t.Errorf("the store cannot be read: %v", err)
		return
	}
	if w.led != nil {
		t.Errorf("traffic is still steered, to %v", w.led)
	}
	if g != nil {
		w.tidy(t, g.Number)
	}
	for _, pattern := range []string{units.UnitDir + "/*.tmp", units.RunDir + "/shop/*.tmp", units.StateDir + "/shop/*.tmp", units.StateDir + "/shop/generations/*/*.tmp", units.StateDir + "/shop/generations/new"} {
		if left, _ := filepath.Glob(w.layout.Path(pattern)); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
	live := 0
	for name, u := range w.units {
		if u.Active == "failed" {
			t.Errorf("%s is left failed", name)
		}
		if !u.Live() {
			continue
		}
		live++
		if g == nil {
			t.Errorf("%s runs, but no generation is recorded", name)
			continue
		}
		own, err := store.Of(w.layout, "shop").Generation(u.generation)
		if err != nil {
			t.Errorf("%s runs on generation %d, which cannot be read: %v", name, u.generation, err)
			continue
		}
		if u.generation != g.Number && own.Unsized != g.Unsized {
			t.Errorf("%s runs generation %d, the current one is %d", name, u.generation, g.Number)
		}
		if m := generationOf.FindStringSubmatch(u.text); m == nil || m[1] != fmt.Sprint(g.Number) {
			// A unit whose file went before a reload still has the old text loaded;
			// what it runs has been looked at above.
			if own.Unsized != g.Unsized {
				t.Errorf("%s would be restarted on %v, the current generation is %d", name, m, g.Number)
			}
		}
		if !u.Up() {
			t.Errorf("%s is %s (%s)", name, u.Active, u.Sub)
		}
	}
	switch {
	case g == nil || s.asks == nil && live == 0:
	case live != g.Nodes:
		t.Errorf("%d units run, the current generation %d has %d", live, g.Number, g.Nodes)
	}
	// Every generation that is kept is whole.
	numbers, err := store.Of(w.layout, "shop").Generations()
	if err != nil {
		t.Error(err)
	}
	for _, n := range numbers {
		g, err := store.Of(w.layout, "shop").Generation(n)
		if err != nil {
			t.Errorf("generation %d cannot be read: %v", n, err)
		} else if g.Ready && g.Rollout != nil && g.Rollout.Result == "failed" {
			t.Errorf("generation %d has failed, but counts as one that was ready", n)
		}
	}
}

func (w *world) gone() { os.RemoveAll(w.layout.Root) }

// TestModel tries every fault at every call of every scenario.
func TestModel(t *testing.T) {
	var tried atomic.Int64
	t.Cleanup(func() { t.Logf("%d faults were tried", tried.Load()) })
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			outer := t
			var calls []string
			synctest.Test(t, func(t *testing.T) {
				s.base = s.prepared(t).copy(outer)
				w := s.world(t)
				before, was := current(t, w), w.invocations()
				err := s.do(t.Context(), w)
				if (err != nil) != s.fails {
					t.Fatalf("without any fault: %v", err)
				}
				calls = w.calls
				s.outcome(t, w, before, was, err)
				s.mends(t, w)
			})
			for _, f := range faults {
				for k := range calls {
					if again(calls[:k+1]) || !thorough && k%f.every > 0 {
						continue
					}
					ok := t.Run(fmt.Sprintf("%s/%d", f.name, k), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) { f.do(t, s, k) })
					})
					tried.Add(1)
					if !ok {
						t.Logf("%s at call %d of %v", f.name, k, calls[max(0, k-6):min(len(calls), k+2)])
						if os.Getenv("ALL") == "" {
							break
						}
					}
				}
			}
		})
	}
}

// again says that the last call is one of a loop in which nothing new has
// happened for two rounds.
func again(calls []string) bool {
	for round := 2; round <= 8; round++ {
		n := len(calls)
		if n < 3*round {
			return false
		}
		same := true
		for i := range round {
			same = same && calls[n-1-i] == calls[n-1-i-round] && calls[n-1-i] == calls[n-1-i-2*round]
		}
		if same {
			return true
		}
	}
	return false
}
