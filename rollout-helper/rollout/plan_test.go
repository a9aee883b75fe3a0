package rollout

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"app-rollout/units"
)

// TestPlan: what show prints is what the run does, in every situation that the model
// begins with, and in those that a killed run of it leaves.
func TestPlan(t *testing.T) {
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			outer := t
			calls := 0
			synctest.Test(t, func(t *testing.T) {
				s.base = s.prepared(t).copy(outer)
				w := s.world(t)
				defer w.gone()
				_ = s.do(t.Context(), w)
				calls = len(w.calls)
			})
			synctest.Test(t, func(t *testing.T) {
				w := s.world(t)
				defer w.gone()
				w.keepsPlan(t)
			})
			// Ten moments of it are enough: TestModel tries what a run does at all.
			for k := 0; k < calls; k += 1 + calls/10 {
				for _, lost := range []bool{false, true} {
					t.Run(fmt.Sprintf("killed/%d/%v", k, lost), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							w, _ := s.killed(t, k)
							defer w.gone()
							if lost { // what says which numbers were given out
								if err := os.RemoveAll(w.layout.Run("shop")); err != nil {
									t.Fatal(err)
								}
							}
							w.keepsPlan(t)
						})
					})
				}
			}
		})
	}
}

// TestPlanForStrangers: units that only have an app's name are not ours to stop.
func TestPlanForStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		if err := errors.Join(os.Remove(w.layout.Env("shop")), os.RemoveAll(w.layout.State("shop")), os.RemoveAll(w.layout.Run("shop"))); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"shop@1.service", "shop@2.service"} {
			if err := os.Remove(w.layout.UnitFile(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
		w.keepsPlan(t)
		if got := w.running(); got != "shop@1/1 shop@2/1" {
			t.Errorf("%s run", got)
		}
	})
}

// TestPlanForStray: a unit of the app that a person has started is stopped first, and
// its number and those below it are not given out.
func TestPlanForStray(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		if err := w.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Start(t.Context(), "shop@50.service"); err != nil {
			t.Fatal(err)
		}
		w.keepsPlan(t)
		if got := w.running(); got != "shop@51/2 shop@52/2" {
			t.Errorf("%s run", got)
		}
	})
}

// keepsPlan makes a plan, runs, and compares.
//
// The release command is no part of it: see TestRelease.
func (w *world) keepsPlan(t *testing.T) {
	t.Helper()
	m := w.machine()
	w.check = nil
	p, refusal := m.Plan(t.Context(), "shop")
	if p == nil {
		t.Fatalf("Plan = %v", refusal)
	}
	before := w.invocations()
	w.calls = make([]string, 1000) // the run's starts get ids of their own
	err := m.Swap(t.Context(), "shop")
	if refusal != nil {
		if err == nil || err.Error() != refusal.Error() {
			t.Fatalf("Swap = %v, was to be refused: %v", err, refusal)
		}
		return
	}
	var started, gone []string
	for _, call := range w.calls[1000:] {
		verb, name, _ := strings.Cut(call, " ")
		if (verb == "start" || verb == "restart") && name != releaseUnit && !slices.Contains(started, name) {
			started = append(started, name)
		}
	}
	after := w.invocations()
	for name, id := range before {
		if after[name] != id && name != releaseUnit {
			gone = append(gone, name)
		}
	}
	same := func(what string, got []string, want ...string) {
		t.Helper()
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s %v, the plan was %v: %+v\nthe run: %v", what, got, want, *p, err)
		}
	}
	left := unitNames(p.Left)
	if err != nil {
		// It went back: what it started is of the plan, and only what was left is gone.
		// The one service went back by a restart.
		if p.InPlace {
			left = append(left, unitNames(p.Stop)...)
		}
		if extra := without(started, unitNames(p.Start)); len(extra) > 0 {
			t.Errorf("started %v, the plan was %v", extra, p.Start)
		}
		same("stopped", gone, left...)
		return
	}
	same("started", started, unitNames(p.Start)...)
	same("stopped", gone, append(left, unitNames(p.Stop)...)...)
	for _, i := range p.Keep {
		if name := i.Unit(); after[name] == "" || after[name] != before[name] {
			t.Errorf("%s was to go on, and was touched", name)
		}
	}
	if g := current(t, w); p.Spec != nil && g != p.Generation {
		t.Errorf("generation %d is the current one, the plan was %d", g, p.Generation)
	}
}

// TestServiceBeside: instances that run beside the one service, as when the record of a
// change of modes is lost, are to be stopped first, and then the service is restarted.
func TestServiceBeside(t *testing.T) {
	service := loaded{units.Instance{App: "shop"}, true, true}
	one := loaded{units.Instance{App: "shop", Number: 1}, true, true}
	s := situation{app: "shop", loaded: []loaded{service, one}}
	const want = "shop@1 runs beside shop, which would be restarted; stop it (systemctl stop shop@1), then: app-rollout run shop"
	if refusal := s.unlike(units.Plan{}, "app-rollout run shop"); refusal == nil || refusal.Error() != want {
		t.Errorf("%v, want %q", refusal, want)
	}
	s.loaded = []loaded{service}
	if refusal := s.unlike(units.Plan{}, "app-rollout run shop"); refusal != nil {
		t.Errorf("afterwards: %v", refusal)
	}
	if p := s.plan(units.Plan{}, ""); !p.InPlace {
		t.Errorf("afterwards: %+v", p)
	}
}
