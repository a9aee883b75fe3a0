package rollout

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"app-rollout/rollout-helper/systemd"
	"app-rollout/units"
	"app-rollout/units/store"
)

const (
	copied = "/etc/systemd/system/shop@.service"
	revert = copied + ": is a copy of a unit that app-rollout generates, and stands in its way; systemctl revert shop@.service"
)

// shadow puts a file into the way of the app's units: a copy of a generation's unit or,
// for 0, a mask.
func (w *world) shadow(generation int) {
	w.t.Helper()
	path := w.layout.Path(copied)
	err := errors.Join(os.RemoveAll(path), os.MkdirAll(filepath.Dir(path), 0o755))
	if generation == 0 {
		err = errors.Join(err, os.Symlink("/dev/null", path))
	} else {
		text, e := store.Of(w.layout, "shop").Unit(generation)
		err = errors.Join(err, e, os.WriteFile(path, text, 0o644))
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// strays makes the app's units run what a generation is, as a file says.
func (w *world) strays(generation int, file string) {
	w.t.Helper()
	text, err := store.Of(w.layout, "shop").Unit(generation)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, u := range w.units {
		u.text, u.generation, u.Fragment = string(text), generation, file
		u.Source = units.SourcePath("shop", generation)
		u.LogFields = map[string]string{units.SourceField: u.Source}
	}
}

func (w *world) said() (text string) {
	for _, e := range w.events {
		text += e.Line() + "\n"
	}
	return text
}

// TestShadowRefused: neither a deploy nor a rollback is done beside a file that is not
// ours. Nothing is frozen, and what runs goes on.
func TestShadowRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		w.env("A=2")
		if err := w.machine().Swap(t.Context(), "shop"); err != nil {
			t.Fatal(err)
		}
		if err := w.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		for generation, want := range map[int]string{1: revert, 0: "systemctl unmask shop@.service"} {
			w.shadow(generation)
			m := w.machine()
			for again, do := range map[string]func() error{
				"app-rollout run shop":      func() error { return m.Swap(t.Context(), "shop") },
				"app-rollout rollback shop": func() error { return m.Rollback(t.Context(), "shop") },
			} {
				err := do()
				if err == nil || !strings.Contains(err.Error(), want) || !strings.HasSuffix(err.Error(), "when that is mended: "+again) {
					t.Errorf("%s: %v", again, err)
				}
			}
		}
		if next, err := store.Of(w.layout, "shop").Next(); err != nil || next != 3 {
			t.Errorf("the next generation is %d: %v", next, err)
		}
		if got := w.running(); got != "shop@3/2 shop@4/2" {
			t.Errorf("%s run", got)
		}
	})
}

// TestShadowMeanwhile: a mask that comes in the middle of a run is what the run says,
// and it goes back.
func TestShadowMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		w.onCall = func(_ int, call string) error {
			if call != "start shop@4.service" {
				return nil
			}
			w.shadow(0)
			return errors.New("Unit shop@4.service is masked.")
		}
		err := w.machine().Swap(t.Context(), "shop")
		if err == nil || !strings.Contains(err.Error(), "masks shop@.service, so that systemd does not start it; generation 1 still serves; systemctl unmask shop@.service; when that") {
			t.Errorf("%v", err)
		}
		w.onCall = nil
		if got := w.running(); got != "shop@1/1 shop@2/1" {
			t.Errorf("%s run", got)
		}
	})
}

// TestBootBesideShadow: the boot takes over what is recorded, rolls nothing out, and
// fails with the remedy.
func TestBootBesideShadow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		w.env("A=2")
		w.reboot()
		w.shadow(1)
		err := w.machine().Boot(t.Context(), "shop")
		if err == nil || !strings.Contains(err.Error(), revert) {
			t.Errorf("%v", err)
		}
		if got := w.running(); got != "shop@1/1 shop@2/1" || current(t, w) != 1 {
			t.Errorf("%s run; %d is the current generation", got, current(t, w))
		}
		if i, err := store.Of(w.layout, "shop").Instances(); err != nil || !slices.Equal(i.Generations[1], []int{1, 2}) {
			t.Errorf("%+v is recorded: %v", i, err)
		}
	})
}

// TestBootMasked: what is masked is not started, and the boot does not wait for it.
func TestBootMasked(t *testing.T) {
	for _, recorded := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.env()
			if recorded {
				w = up(t)
			}
			w.reboot()
			clear(w.units)
			w.shadow(0)
			w.calls = nil
			err := w.machine().Boot(t.Context(), "shop")
			if err == nil || !strings.Contains(err.Error(), "systemctl unmask shop@.service") {
				t.Errorf("%v", err)
			}
			if slices.ContainsFunc(w.calls, func(c string) bool { return strings.HasPrefix(c, "start") }) {
				t.Errorf("started: %v", w.calls)
			}
		})
	}
}

// TestBootAstray: if the boot has started another generation than the recorded one, it is
// stopped, the recorded one is started, and both are said. The file may be gone by then.
func TestBootAstray(t *testing.T) {
	for _, shadowed := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := up(t)
			w.env("A=2")
			if err := w.machine().Swap(t.Context(), "shop"); err != nil {
				t.Fatal(err)
			}
			w.reboot()
			w.strays(1, copied)
			if shadowed {
				w.shadow(1)
			}
			w.onCall = func(_ int, call string) error {
				if call == "reload" { // now the generator succeeds
					for _, u := range w.units {
						u.Fragment = units.GeneratorDir + "/shop@.service"
					}
				}
				return nil
			}
			w.events = nil
			err := w.machine().Boot(t.Context(), "shop")
			if (err != nil) != shadowed || shadowed && !strings.Contains(err.Error(), revert) {
				t.Errorf("%v", err)
			}
			if got := w.running(); got != "shop@1/2 shop@2/2" || current(t, w) != 2 {
				t.Errorf("%s run; %d is the current generation", got, current(t, w))
			}
			const says = "shop@1 shop@2 run generation 1 (" + copied + "), not generation 2, which is recorded: that is started instead"
			if !strings.Contains(w.said(), says) {
				t.Errorf("it is not said:\n%s", w.said())
			}
		})
	}
}

// TestBootStaysAstray: if systemd starts something else again, that is stopped too, and
// nothing is recorded.
func TestBootStaysAstray(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		w.env("A=2")
		if err := w.machine().Swap(t.Context(), "shop"); err != nil {
			t.Fatal(err)
		}
		w.reboot()
		w.strays(1, copied)
		w.shadow(1)
		w.starts = func(u *fakeUnit) (string, error) {
			u.Active, u.Sub, u.Source, u.Fragment = "active", "running", units.SourcePath("shop", 1), copied
			return "done", nil
		}
		err := w.machine().Boot(t.Context(), "shop")
		if err == nil || !strings.Contains(err.Error(), "which is recorded: they are stopped") || !strings.Contains(err.Error(), revert) {
			t.Errorf("%v", err)
		}
		if got := w.running(); got != "" {
			t.Errorf("%s run", got)
		}
		// What check names is taken away, as it says.
		if !strings.Contains(err.Error(), "see: app-rollout check shop") || !strings.Contains(fmt.Sprint(w.layout.Shadows("shop")), revert) {
			t.Errorf("%v", err)
		}
		w.starts = nil
		if err := os.Remove(w.layout.Path(copied)); err != nil {
			t.Fatal(err)
		}
		if err := w.machine().Swap(t.Context(), "shop"); err != nil {
			t.Errorf("Swap = %v", err)
		}
	})
}

// TestRuns: what a process runs is what it was started with, whatever is loaded by now.
func TestRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		for _, lines := range [][]string{{"SYSTEMD_CLUSTER_NODES=3"}, {"A=2"}} {
			w.env(lines...)
			if err := w.machine().Swap(t.Context(), "shop"); err != nil {
				t.Fatal(err)
			}
		}
		source := func(n int) string { return units.SourcePath("shop", n) }
		frozen := units.FirstGeneration(units.GeneratorDir, "shop") + "/" + units.EnvFile
		for _, c := range []struct {
			generation      int
			loaded, started string
			want            bool
		}{
			{3, source(3), "", true},
			{3, source(1), "", false},
			{3, source(3), source(1), false},
			{3, source(1), source(3), true},
			{2, source(2), source(1), true}, // only the number of nodes differs
			{3, source(3), source(2), false},
			{3, source(3), source(9), false}, // long gone
			{3, source(3), frozen, true},     // recorded as 3 when it ran already
			{3, "/srv/other", "", false},
			{3, "", "", true}, // nobody can tell
		} {
			g, err := store.Of(w.layout, "shop").Generation(c.generation)
			if err != nil {
				t.Fatal(err)
			}
			u := systemd.Unit{Name: "shop@1.service", Source: c.loaded}
			if c.started != "" {
				u.LogFields = map[string]string{units.SourceField: c.started}
			}
			if w.machine().Runs(g, u) != c.want {
				t.Errorf("%+v: %v", c, !c.want)
			}
		}
	})
}

// TestUnsharedWarns: a rollout says that a mask keeps instances from sharing the port.
func TestUnsharedWarns(t *testing.T) {
	for _, c := range []struct {
		env  string
		want bool
	}{{"", true}, {"SYSTEMD_CLUSTER_REUSE_PORT=0", false}} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			path := w.layout.Path("/etc/systemd/system/" + units.PortsService)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink("/dev/null", path)); err != nil {
				t.Fatal(err)
			}
			w.env(c.env)
			if err := w.machine().Swap(t.Context(), "shop"); err != nil {
				t.Fatal(err)
			}
			const says = "instances cannot share their port, unless the app sets SO_REUSEPORT itself; systemctl unmask app-rollout-ports.service"
			if strings.Contains(w.said(), says) != c.want {
				t.Errorf("%q:\n%s", c.env, w.said())
			}
		})
	}
}
