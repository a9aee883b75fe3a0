package rollout

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"app-rollout/units/store"
)

// TestBootNeverReady: when what was booted does not become ready, what is asked
// for is rolled out.
func TestBootNeverReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t, "BEHAVE=ok")
		path := store.Of(w.layout, "shop").Dir(1) + "/environment"
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, bytes.ReplaceAll(text, []byte(`BEHAVE="ok"`), []byte(`BEHAVE="deaf"`)), 0o600); err != nil {
			t.Fatal(err)
		}
		w.reboot()
		w.env("NEW=1")
		if err := w.machine().Boot(t.Context(), "shop"); err != nil {
			t.Fatal(err)
		}
		if got, want := w.running(), "shop@3/2 shop@4/2"; got != want || current(t, w) != 2 {
			t.Errorf("%s run, want %s; the current generation is %d", got, want, current(t, w))
		}
		w.clean(t)
	})
}

// TestBootPortTaken: a boot says who has the port that what was booted does not get.
func TestBootPortTaken(t *testing.T) {
	for active, how := range map[string]string{"active": "does not listen on its PORT 3000", "activating": "is still starting"} {
		synctest.Test(t, func(t *testing.T) {
			w := up(t, "SYSTEMD_CLUSTER_READY_SEC=5")
			w.reboot()
			for _, u := range w.units {
				u.behave, u.Active = "deaf", active
			}
			w.strange = true
			if err := w.machine().Boot(t.Context(), "shop"); err == nil {
				t.Errorf("%s: it succeeds", active)
			}
			says := how + ", and its PORT 3000 is taken by stranger on 0.0.0.0:3000; stop that, or give the app another port"
			if !strings.Contains(w.said(), says) {
				t.Errorf("%s: it does not say %q:\n%s", active, says, w.said())
			}
		})
	}
}

// TestBootLate: what has failed before is not tried at boot either if the recorded
// generation does not become ready.
func TestBootLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t, "BEHAVE=ok")
		w.env("BEHAVE=exits")
		if err := w.machine().Swap(t.Context(), "shop"); err == nil {
			t.Fatal("it succeeds")
		}
		path := store.Of(w.layout, "shop").Dir(1) + "/environment"
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, bytes.ReplaceAll(text, []byte(`BEHAVE="ok"`), []byte(`BEHAVE="deaf"`)), 0o600); err != nil {
			t.Fatal(err)
		}
		w.reboot()
		if err := w.machine().Boot(t.Context(), "shop"); err == nil || current(t, w) != 1 {
			t.Errorf("Boot = %v, the current generation is %d", err, current(t, w))
		}
		for _, call := range w.calls {
			if strings.HasPrefix(call, "start ") {
				t.Errorf("at boot: %s", call)
			}
		}
	})
}

// TestBootTries: the boot names the run that tries again what failed before, and that run
// does so.
func TestBootTries(t *testing.T) {
	for _, ready := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w, says := newWorld(t), "is not started: it was never ready, and what its .env asks for failed before (generation 1); app-rollout history shop says why, app-rollout run shop tries it again"
			if ready {
				w, says = up(t), "generation 1 is up; what the .env asks for failed before (generation 2) and is not tried again by itself: app-rollout run shop tries it"
			}
			w.env("A=2")
			w.breaks("exits")
			if err := w.machine().Swap(t.Context(), "shop"); err == nil {
				t.Fatal("it succeeds")
			}
			w.breaks("")
			w.reboot()
			w.events = nil
			err := w.machine().Boot(t.Context(), "shop")
			if said := fmt.Sprint(w.said(), err); (err == nil) != ready || !strings.Contains(said, says) {
				t.Errorf("the boot says %s", said)
			}
			if err := w.machine().Swap(t.Context(), "shop"); err != nil || !w.whole() {
				t.Errorf("Swap = %v, %s run", err, w.running())
			}
		})
	}
}

// TestBootRejected: an app that was never ready is rolled out by the boot, but not what
// has failed before.
func TestBootRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.env("BEHAVE=exits")
		if err := w.machine().Swap(t.Context(), "shop"); err == nil {
			t.Fatal("it succeeds")
		}
		for range 3 {
			w.reboot()
			err := w.machine().Boot(t.Context(), "shop")
			if err == nil || !strings.Contains(err.Error(), "is not started: it was never ready, and what its .env asks for failed before (generation 1)") {
				t.Errorf("Boot = %v", err)
			}
			for _, call := range w.calls {
				if strings.HasPrefix(call, "start ") {
					t.Errorf("at boot: %s", call)
				}
			}
		}
		w.env()
		w.reboot()
		if got := w.running(); got != "" {
			t.Errorf("before the boot service %s run", got)
		}
		if err := w.machine().Boot(t.Context(), "shop"); err != nil || w.running() != "shop@1/2 shop@2/2" {
			t.Errorf("Boot = %v, %s run", err, w.running())
		}
	})
}

// TestBootOrder: a new app is started when those that have been ready have their ports;
// but no app holds the others up for longer than a minute.
func TestBootOrder(t *testing.T) {
	for _, c := range []struct {
		name, behave string
		units        []string // of the other app, that the boot has started
		ports        []int    // that it had when it became ready
		stopped      bool     // its .env is gone
		least, most  time.Duration
	}{
		{name: "it listens at once", units: []string{"blog@1.service", "blog@2.service"}, most: 300 * time.Millisecond},
		{name: "it listens later", behave: "boots", units: []string{"blog@1.service", "blog@2.service"}, least: 400 * time.Millisecond, most: time.Second},
		{name: "it never listens", behave: "deaf", units: []string{"blog@1.service", "blog@2.service"}, least: time.Minute, most: 62 * time.Second},
		{name: "one instance is missing", units: []string{"blog@1.service"}, least: time.Minute, most: 62 * time.Second},
		{name: "one of its ports is missing", units: []string{"blog@1.service", "blog@2.service"}, ports: []int{3000, 9100}, least: time.Minute, most: 62 * time.Second},
		{name: "it is stopped", stopped: true, most: 300 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.neighbour(c.ports, "PORT=3000", "SYSTEMD_CLUSTER_READY_SEC=600")
				if c.stopped {
					if err := os.Remove(w.layout.Env("blog")); err != nil {
						t.Fatal(err)
					}
				}
				w.portless("BEHAVE=elsewhere")
				w.reboot()
				for _, name := range c.units {
					w.neighbourRuns(name, c.behave)
				}
				began, after := time.Now(), time.Duration(-1)
				w.onCall = func(_ int, call string) error {
					if strings.HasPrefix(call, "start shop@1") {
						after = time.Since(began)
					}
					return nil
				}
				if err := w.machine().Boot(t.Context(), "shop"); err != nil {
					t.Fatal(err)
				}
				if after < c.least || after > c.most {
					t.Errorf("started after %v, want %v to %v", after, c.least, c.most)
				}
			})
		})
	}
}

// TestBootAll: a boot of all apps ends, though new ones among them wait for those that
// have been ready.
func TestBootAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.neighbour(nil, "PORT=3000")
		w.portless("BEHAVE=elsewhere")
		w.reboot()
		for _, name := range []string{"blog@1.service", "blog@2.service"} {
			w.neighbourRuns(name, "boots")
		}
		var said []string
		m := w.machine()
		m.Report = func(e Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if e.Step == "boot" || e.Step == "start" {
				said = append(said, e.App)
			}
		}
		for _, r := range m.Each(t.Context(), m.ReadyFirst([]string{"adup", "blog", "shop"}), m.Boot) {
			if r.Err != nil {
				t.Errorf("%s: %v", r.App, r.Err)
			}
		}
		slices.Sort(said)
		if !slices.Equal(said, []string{"blog", "shop"}) || w.running() != "blog@1/0 blog@2/0 shop@1/1 shop@2/1" {
			t.Errorf("%v, %s run", said, w.running())
		}
	})
}

// TestReadyFirst: a boot goes through those that have been ready first.
func TestReadyFirst(t *testing.T) {
	w := newWorld(t)
	w.neighbour(nil)
	if got := w.machine().ReadyFirst([]string{"adup", "blog", "shop"}); !slices.Equal(got, []string{"blog", "adup", "shop"}) {
		t.Errorf("%v", got)
	}
}

// TestRefreshAll: the units of several apps are read with one question to PID 1.
func TestRefreshAll(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"blog@1.service", "blog@2.service", "other@1.service", "shop.service", "shop-jobs@1.service"} {
		w.neighbourRuns(name, "ok")
	}
	w.calls = nil
	all, err := w.machine().refreshAll(t.Context(), []*store.Generation{{App: "blog"}, {App: "shop"}, {App: "docs"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || len(all["blog"]) != 2 || len(all["shop"]) != 1 {
		t.Errorf("%+v", all)
	}
	if !slices.Equal(w.calls, []string{"units"}) {
		t.Errorf("%q", w.calls)
	}
}
