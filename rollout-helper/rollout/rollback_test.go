package rollout

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"app-rollout/units/step"
	"app-rollout/units/store"
)

func TestRollback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		w.env("NEW=1")
		m := w.machine()
		if err := m.Swap(t.Context(), "shop"); err != nil {
			t.Fatal(err)
		}
		if err := m.Rollback(t.Context(), "shop"); err != nil {
			t.Fatal(err)
		}
		if got, want := w.running(), "shop@5/3 shop@6/3"; got != want {
			t.Fatalf("%s run, want %s", got, want)
		}
		disk := store.Of(w.layout, "shop")
		if text, err := disk.Env(3); err != nil || strings.Contains(string(text), "NEW") {
			t.Errorf("generation 3 is not what generation 1 was: %v", err)
		}
		// A run for all leaves it alone, naming it ends the hold.
		if err := m.Deploy(t.Context(), "shop"); err != nil || current(t, w) != 3 {
			t.Errorf("a run for all: %v, generation %d", err, current(t, w))
		}
		if err := m.Swap(t.Context(), "shop"); err != nil || current(t, w) != 4 {
			t.Errorf("a named run: %v, generation %d", err, current(t, w))
		}
		if err := m.Deploy(t.Context(), "shop"); err != nil || current(t, w) != 5 {
			t.Errorf("a run for all after it: %v, generation %d", err, current(t, w))
		}
	})
}

// TestRollbackTwice goes back two generations, not to and fro, and what was
// brought back is gone back to like any other.
func TestRollbackTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t, "V=1")
		m := w.machine()
		swap := func(v string) {
			t.Helper()
			w.env("V=" + v)
			if err := m.Swap(t.Context(), "shop"); err != nil {
				t.Fatal(err)
			}
		}
		back := func(want string) {
			t.Helper()
			if err := m.Rollback(t.Context(), "shop"); err != nil {
				t.Fatal(err)
			}
			text, err := store.Of(w.layout, "shop").Env(current(t, w))
			if err != nil || !strings.Contains(string(text), "V="+want+"\n") {
				t.Fatalf("rolled back to %q, want V=%s (%v)", text, want, err)
			}
			w.clean(t)
		}
		swap("2")
		swap("3")
		back("2")
		back("1")
		if err := m.Rollback(t.Context(), "shop"); err == nil || !strings.Contains(err.Error(), "nothing to roll back to") {
			t.Fatalf("Rollback = %v", err)
		}
		swap("4")
		back("1")
	})
}

// TestHeldBoot: neither a reboot nor a run for all ends a hold; an .env that is
// gone stops the app all the same.
func TestHeldBoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t, "V=1")
		w.env("V=2")
		m := w.machine()
		if err := errors.Join(m.Swap(t.Context(), "shop"), m.Rollback(t.Context(), "shop")); err != nil {
			t.Fatal(err)
		}
		held := current(t, w)
		said := func() bool {
			for _, e := range w.events {
				if e.Step == step.Held && e.Remedy == "app-rollout run shop ends the hold" {
					return true
				}
			}
			return false
		}
		w.reboot()
		w.events = nil
		if err := m.Boot(t.Context(), "shop"); err != nil || current(t, w) != held || !said() {
			t.Errorf("after a boot: %v, generation %d, said %v", err, current(t, w), w.events)
		}
		w.events = nil
		if err := m.Deploy(t.Context(), "shop"); err != nil || current(t, w) != held || !said() {
			t.Errorf("a run for all: %v, generation %d, said %v", err, current(t, w), w.events)
		}
		if changed, err := m.Changed(t.Context()); err != nil || len(changed) > 0 {
			t.Errorf("a run for all would go on with %v, %v", changed, err)
		}
		// A bad .env is no reason to say nothing of the hold.
		w.env("SYSTEMD_CLUSTER_NODES=two")
		w.reboot()
		if err := m.Boot(t.Context(), "shop"); err != nil || current(t, w) != held {
			t.Errorf("a boot with a bad .env: %v", err)
		}
		if err := os.Remove(w.layout.Env("shop")); err != nil {
			t.Fatal(err)
		}
		if err := m.Deploy(t.Context(), "shop"); err != nil || w.running() != "" {
			t.Errorf("a run for all without .env: %v, %s run", err, w.running())
		}
	})
}

// TestHoldOutlivesFailedRollback: a rollback that fails changes no hold.
func TestHoldOutlivesFailedRollback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t, "BEHAVE=ok")
		w.env("V=2")
		m := w.machine()
		if err := m.Swap(t.Context(), "shop"); err != nil {
			t.Fatal(err)
		}
		w.env("V=3")
		if err := errors.Join(m.Swap(t.Context(), "shop"), m.Rollback(t.Context(), "shop")); err != nil {
			t.Fatal(err)
		}
		held := current(t, w)
		w.onCall = func(_ int, call string) error {
			if strings.HasPrefix(call, "start") {
				return errFault
			}
			return nil
		}
		if err := m.Rollback(t.Context(), "shop"); err == nil {
			t.Fatal("the rollback did not fail")
		}
		w.onCall = nil
		if err := m.Deploy(t.Context(), "shop"); err != nil || current(t, w) != held {
			t.Errorf("a run for all after it: %v, generation %d, held was %d", err, current(t, w), held)
		}
	})
}

// TestClockSetBack: which generation came before which is told by their numbers
// alone; here the clock was set back an hour before each.
func TestClockSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t, "V=1")
		m, disk := w.machine(), store.Of(w.layout, "shop")
		for v := 2; v <= store.Kept+3; v++ {
			w.env(fmt.Sprint("V=", v))
			if err := m.Swap(t.Context(), "shop"); err != nil {
				t.Fatal(err)
			}
			g, err := disk.Current()
			if err != nil {
				t.Fatal(err)
			}
			g.Created = g.Created.Add(-time.Duration(v) * time.Hour)
			g.Rollout.Started = g.Created
			if err := disk.Save(g); err != nil {
				t.Fatal(err)
			}
		}
		if kept, err := disk.Generations(); err != nil || fmt.Sprint(kept) != "[3 4 5 6 7]" {
			t.Errorf("%v are kept: %v", kept, err)
		}
		if err := m.Rollback(t.Context(), "shop"); err != nil {
			t.Fatal(err)
		}
		if text, err := disk.Env(current(t, w)); err != nil || !strings.Contains(string(text), "V=6") {
			t.Errorf("what is up after a rollback is not the one before: %v", err)
		}
	})
}

// TestRollbackHalfDone: what puts a committed rollback right must neither end
// the hold nor go back further.
func TestRollbackHalfDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t, "V=1")
		w.env("V=2")
		m := w.machine()
		if err := m.Swap(t.Context(), "shop"); err != nil {
			t.Fatal(err)
		}
		w.onCall = func(_ int, call string) error {
			if call == "stop shop@3.service" {
				return errors.New("no")
			}
			return nil
		}
		err := m.Rollback(t.Context(), "shop")
		if err == nil || !strings.Contains(err.Error(), "; app-rollout run puts it right") {
			t.Errorf("Rollback = %v", err)
		}
		w.onCall = nil
		if err := m.Deploy(t.Context(), "shop"); err != nil {
			t.Fatal(err)
		}
		if got, want := w.running(), "shop@5/3 shop@6/3"; got != want {
			t.Errorf("%s run, want %s", got, want)
		}
		w.clean(t)
	})
}

// TestRollbackToAnothers: a rollback to a PORT that is another app's by now says that this
// one is to have another, for what is frozen keeps its own. When that is done it succeeds.
func TestRollbackToAnothers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t, "PORT=3000")
		stop := func() {
			t.Helper()
			for name := range w.units {
				if _, err := w.Stop(t.Context(), name); err != nil {
					t.Fatal(err)
				}
			}
		}
		stop()
		w.deploys(t, "PORT=4000", "BEHAVE=elsewhere")
		stop()
		w.neighbour(nil, "PORT=3000")
		err := w.machine().Rollback(t.Context(), "shop")
		const want = "generation 1: port 3000 belongs to blog; give blog another PORT, roll it out, then: app-rollout rollback shop"
		if err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("Rollback = %v, want %q", err, want)
		}
		w.neighbour(nil, "PORT=5000")
		if err := w.machine().Rollback(t.Context(), "shop"); err != nil {
			t.Errorf("as advised: %v", err)
		}
	})
}
