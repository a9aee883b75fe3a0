package rollout

import (
	"os"
	"slices"
	"testing"
	"testing/synctest"

	"app-rollout/units"
)

// TestLost: whatever a person removes of what was written down, what serves goes
// on until something else does.
func TestLost(t *testing.T) {
	for _, again := range []bool{false, true} { // what is up has been replaced before
		for _, dirs := range [][]string{{units.StateDir}, {units.RunDir}, {units.StateDir, units.RunDir}} {
			for _, asks := range []string{"NEW=1", "BEHAVE=exits"} {
				synctest.Test(t, func(t *testing.T) {
					w := up(t)
					if again {
						deployed(t, w)
					}
					was := w.running()
					for _, dir := range dirs {
						if err := os.RemoveAll(w.layout.Path(dir + "/shop")); err != nil {
							t.Fatal(err)
						}
					}
					w.env(asks)
					w.check = func() {
						n := 0
						for _, u := range w.units {
							if u.Active == "active" && u.behave == "ok" {
								n++
							}
						}
						if n < 2 && !t.Failed() {
							t.Errorf("%v lost, %s: only %d run at call %d of %v", dirs, asks, n, len(w.calls), tail(w.calls))
						}
					}
					err := w.machine().Swap(t.Context(), "shop")
					w.check = nil
					if bad := asks != "NEW=1"; (err != nil) != bad || (w.running() == was) != bad {
						t.Errorf("%v lost, %s: %v; %s run, it were %s", dirs, asks, err, w.running(), was)
					}
				})
			}
		}
	}
}

// TestOff: an app that is kept stopped costs no daemon-reload, at no run.
func TestOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		if err := os.Remove(w.layout.Env("shop")); err != nil {
			t.Fatal(err)
		}
		for at, do := range []func(*Machine) error{
			func(m *Machine) error { return m.Deploy(t.Context(), "shop") },
			func(m *Machine) error { return m.Deploy(t.Context(), "shop") },
			func(m *Machine) error { w.reboot(); return m.Boot(t.Context(), "shop") },
		} {
			w.calls = nil
			if err := do(w.machine()); err != nil || w.running() != "" {
				t.Errorf("%v, %s run", err, w.running())
			}
			reloads := 0
			for _, c := range w.calls {
				if c == "reload" {
					reloads++
				}
			}
			if most := map[bool]int{true: 1}[at == 0]; reloads > most {
				t.Errorf("run %d: %v", at, w.calls)
			}
			if w.template["shop@.service"] != "" {
				t.Error("it can still be started")
			}
		}
	})
}

// TestNotGenerated: what runs though the generator makes no unit of it any more,
// since somebody has installed one of its name, is no unfinished run.
func TestNotGenerated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		w.reboot()
		if err := w.machine().Boot(t.Context(), "shop"); err != nil {
			t.Fatal(err)
		}
		for _, u := range w.units {
			u.Source, u.Load, u.WantedBy = "", "not-found", nil
		}
		w.events, w.calls = nil, nil
		if err := w.machine().Recover(t.Context(), "shop"); err != nil || len(w.events) > 0 || slices.Contains(w.calls, "reload") {
			t.Errorf("%v: %v, %v", err, w.events, w.calls)
		}
	})
}
