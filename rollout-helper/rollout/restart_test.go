package rollout

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"

	"app-rollout/units/store"
)

// TestRestart: the instances are new, their generation is not, and whatever stands at
// the .env's place is not read.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		m, disk, env := w.machine(), store.Of(w.layout, "shop"), w.layout.Env("shop")
		first, err := disk.Current()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			what string
			make func() error
			want string
		}{
			{"a changed .env", func() error { w.env("NEW=1"); return nil }, "shop@3/1 shop@4/1"},
			{"a broken .env", func() error { w.env("SYSTEMD_CLUSTER_NODES=two"); return nil }, "shop@5/1 shop@6/1"},
			{"a dangling link", func() error { return errors.Join(os.Remove(env), os.Symlink("/gone", env)) }, "shop@7/1 shop@8/1"},
			{"no .env", func() error { return os.Remove(env) }, "shop@10/1 shop@9/1"},
		} {
			if err := c.make(); err != nil {
				t.Fatal(err)
			}
			if err := m.Restart(t.Context(), "shop"); err != nil {
				t.Fatalf("%s: %v", c.what, err)
			}
			if got := w.running(); got != c.want || current(t, w) != 1 {
				t.Errorf("%s: %s run, want %s", c.what, got, c.want)
			}
			w.clean(t)
		}
		now, err := disk.Current()
		if err != nil {
			t.Fatal(err)
		}
		if now.Rollout.Started != first.Rollout.Started || now.Restart == nil || now.Restart.Result != "ready" || now.Restart.Traffic != Steered {
			t.Errorf("the receipts are %+v and %+v", now.Rollout, now.Restart)
		}
		w.env("NEW=1")
		if err := m.Swap(t.Context(), "shop"); err != nil || current(t, w) != 2 {
			t.Errorf("the next run: %v, generation %d", err, current(t, w))
		}
		if next, err := disk.Current(); err != nil || next.Restart != nil {
			t.Errorf("generation 2 was never restarted: %+v, %v", next.Restart, err)
		}
	})
}

// TestRestartFails: the old instances are untouched, nothing is rejected, and the
// message says so.
func TestRestartFails(t *testing.T) {
	for behave, why := range map[string]string{
		"exits": "exited with status 3",
		"deaf":  "does not listen on 0.0.0.0:3000",
		"dies":  "exited with status 3 while it was watched",
	} {
		synctest.Test(t, func(t *testing.T) {
			w := up(t)
			w.breaks(behave)
			before := w.invocations()
			err := w.machine().Restart(t.Context(), "shop")
			for _, part := range []string{why, "; shop@1 shop@2 still serve, and generation 1 is not rejected; ", "; when that is mended: app-rollout restart shop"} {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("%s: Restart = %v, want %q", behave, err, part)
				}
			}
			for name, id := range w.invocations() {
				if before[name] != id {
					t.Errorf("%s: %s was touched", behave, name)
				}
			}
			w.clean(t)
			disk := store.Of(w.layout, "shop")
			rejected, err := disk.Rejected()
			g, e := disk.Current()
			if err != nil || e != nil || rejected != nil || !g.Ready || g.Restart.Result != "failed" || g.Rollout.Result != "ready" {
				t.Errorf("%s: rejected %v, current %+v, %v, %v", behave, rejected, g, err, e)
			}
			w.breaks("")
			if err := w.machine().Restart(t.Context(), "shop"); err != nil {
				t.Error(err)
			}
			if got, want := w.running(), "shop@5/1 shop@6/1"; got != want {
				t.Errorf("%s: %s run, want %s", behave, got, want)
			}
		})
	}
}

// TestRestartInPlace: the one service of mode 0 has the same proofs, and nothing to go
// back to.
func TestRestartInPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t, "SYSTEMD_CLUSTER_MODE=0")
		before := w.invocations()["shop.service"]
		if err := w.machine().Restart(t.Context(), "shop"); err != nil {
			t.Fatal(err)
		}
		if got := w.running(); got != "shop/1" || w.invocations()["shop.service"] == before {
			t.Errorf("%s runs, restarted: %v", got, w.invocations()["shop.service"] != before)
		}
		w.clean(t)
		w.breaks("dies")
		err := w.machine().Restart(t.Context(), "shop")
		want := "exited with status 3 while it was watched; generation 1 does not serve: shop is down; "
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Restart = %v, want %q", err, want)
		}
		if rejected, err := store.Of(w.layout, "shop").Rejected(); err != nil || rejected != nil {
			t.Errorf("rejected: %v, %v", rejected, err)
		}
	})
}

// TestRestartHeld: a hold neither keeps an app from a restart nor ends by it.
func TestRestartHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t, "V=1")
		w.env("V=2")
		m := w.machine()
		if err := errors.Join(m.Swap(t.Context(), "shop"), m.Rollback(t.Context(), "shop"), m.Restart(t.Context(), "shop")); err != nil {
			t.Fatal(err)
		}
		if err := m.Deploy(t.Context(), "shop"); err != nil {
			t.Fatal(err)
		}
		if got, want := w.running(), "shop@7/3 shop@8/3"; got != want {
			t.Errorf("%s run, want %s", got, want)
		}
	})
}

// TestRestartNothing: an app that does not run is not restarted. What to do is told.
func TestRestartNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.env()
		m := w.machine()
		says := func(want string) {
			t.Helper()
			if err := m.Restart(t.Context(), "shop"); err == nil || err.Error() != want {
				t.Errorf("Restart = %v, want %s", err, want)
			}
		}
		says("shop has never been ready: there is nothing to restart; to roll out what its .env asks for: app-rollout run shop")
		deployed(t, w)
		for _, name := range []string{"shop@1.service", "shop@2.service"} {
			if _, err := w.Stop(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
		says("shop is stopped: there is nothing to restart; to start what its .env asks for: app-rollout run shop")
		if err := os.Remove(w.layout.Env("shop")); err != nil {
			t.Fatal(err)
		}
		says("shop is stopped: there is nothing to restart; put its .env back at /etc/app-rollout/shop.env, then: app-rollout run shop")
	})
}

// TestRestartInterrupted: before the commit it goes back.
func TestRestartInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w.onCall = func(_ int, call string) error {
			if strings.HasPrefix(call, "start") {
				cancel()
			}
			return nil
		}
		err := w.machine().Restart(ctx, "shop")
		want := "the restart was interrupted; shop@1 shop@2 still serve, and generation 1 is not rejected; to begin anew: app-rollout restart shop"
		if err == nil || err.Error() != want {
			t.Errorf("Restart = %v, want %s", err, want)
		}
		w.clean(t)
	})
}
