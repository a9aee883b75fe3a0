package rollout

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"app-rollout/rollout-helper/systemd"
	"app-rollout/units"
	"app-rollout/units/step"
	"app-rollout/units/store"
)

const releaseUnit = "app-rollout-release@shop.service"

// ran are the release commands and the starts of instances among the calls, in order.
func (w *world) ran() (all []string) {
	for _, call := range w.calls {
		if name, ok := strings.CutPrefix(call, "start "); ok {
			all = append(all, strings.TrimSuffix(name, ".service"))
		}
	}
	return all
}

// TestRelease: the release command runs once, before anything of the candidate is started,
// and leaves nothing behind but how long it took.
func TestRelease(t *testing.T) {
	for _, how := range []string{"", "RELEASE=unseen"} {
		synctest.Test(t, func(t *testing.T) {
			w := up(t)
			w.calls = nil
			w.env(releases, how)
			deployed(t, w)
			if ran := w.ran(); len(ran) != 3 || ran[0] != "app-rollout-release@shop" {
				t.Errorf("started: %v", ran)
			}
			if w.running() != "shop@3/2 shop@4/2" {
				t.Errorf("%s run", w.running())
			}
			if _, err := os.Lstat(w.layout.UnitFile(releaseUnit)); err == nil {
				t.Error("the unit of the release command is left")
			}
			current, err := store.Of(w.layout, "shop").Current()
			if err != nil {
				t.Fatal(err)
			}
			if first := current.Rollout.Steps[0].Name; first != step.Release {
				t.Errorf("the receipt's first step is %s", first)
			}
		})
	}
}

// TestReleaseFails: nothing was touched, and the next run tries it again.
func TestReleaseFails(t *testing.T) {
	for how, says := range map[string]string{
		"exits":     releaseUnit + " exited with status 3; generation 1 still serves",
		"hangs":     releaseUnit + " had not ended after 600 s, and was stopped; generation 1 still serves",
		"cancelled": releaseUnit + " was stopped by another job before it had ended; generation 1 still serves",
	} {
		for _, mode := range []string{"1", "0"} {
			t.Run(how+"/"+mode, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := up(t, "SYSTEMD_CLUSTER_MODE="+mode)
					before, began := w.running(), time.Now()
					w.calls = nil
					w.env("SYSTEMD_CLUSTER_MODE="+mode, releases, "RELEASE="+how)
					err := w.machine().Swap(t.Context(), "shop")
					if err == nil || !strings.Contains(err.Error(), says) {
						t.Errorf("%v, want %q", err, says)
					}
					if ran := w.ran(); len(ran) != 1 || w.running() != before || slices.ContainsFunc(w.calls, func(c string) bool { return strings.HasPrefix(c, "restart") }) {
						t.Errorf("started %v; %s run, before %s", ran, w.running(), before)
					}
					disk := store.Of(w.layout, "shop")
					numbers, err := disk.Generations()
					if err != nil || len(numbers) != map[bool]int{true: 1, false: 2}[how == "cancelled"] {
						t.Errorf("the generations %v are kept, %v", numbers, err)
					}
					rejected, err := disk.Rejected()
					if err != nil || (rejected == nil) != (how == "cancelled") {
						t.Errorf("rejected: %+v, %v", rejected, err)
					}
					if rejected != nil && (rejected.Rollout.Steps[0].Name != step.Release || !strings.Contains(rejected.Rollout.Reason, releaseUnit) ||
						!rejected.Rollout.Started.Equal(began)) {
						t.Errorf("the receipt of the failed one: %+v", rejected.Rollout)
					}
					w.env("SYSTEMD_CLUSTER_MODE="+mode, releases)
					deployed(t, w)
				})
			})
		}
	}
}

// TestNoRelease: nothing but a rollout of what an .env asks for runs the release command.
func TestNoRelease(t *testing.T) {
	never := func(t *testing.T, w *world, what string, do func(m *Machine, ctx context.Context, app string) error) {
		t.Helper()
		w.calls = nil
		if err := do(w.machine(), t.Context(), "shop"); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if ran := w.ran(); slices.Contains(ran, "app-rollout-release@shop") {
			t.Errorf("%s started %v", what, ran)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		w := up(t, releases)
		w.deploys(t, releases, "NEW=1")
		never(t, w, "a restart", (*Machine).Restart)
		w.env(releases, "NEW=1", "SYSTEMD_CLUSTER_NODES=3")
		never(t, w, "more instances", (*Machine).Swap)
		never(t, w, "a rollback", (*Machine).Rollback)
	})
}

// TestReleaseAtBoot: a boot never rolls to what has a release command. It stays on what is
// recorded, and says what to type.
func TestReleaseAtBoot(t *testing.T) {
	const left = "what the .env asks for has a release command, which a boot does not run"
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		w.env(releases)
		w.reboot()
		w.calls, w.events = nil, nil
		if err := w.machine().Boot(t.Context(), "shop"); err != nil {
			t.Error(err)
		}
		if !slices.ContainsFunc(w.events, func(e Event) bool {
			return strings.Contains(e.Text, left) && strings.Contains(e.Remedy, "app-rollout run shop")
		}) {
			t.Errorf("it says %v", w.events)
		}
		if w.running() != "shop@1/1 shop@2/1" {
			t.Errorf("%s run", w.running())
		}
		deployed(t, w)
		// What has become ready is booted as always.
		w.reboot()
		w.calls = nil
		if err := w.machine().Boot(t.Context(), "shop"); err != nil || len(w.ran()) > 0 || w.running() != "shop@1/2 shop@2/2" {
			t.Errorf("%v, started %v, %s run", err, w.ran(), w.running())
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.env(releases)
		w.reboot()
		if err := w.machine().Boot(t.Context(), "shop"); err == nil || !strings.Contains(err.Error(), left) {
			t.Errorf("an app that was never ready: %v", err)
		}
		w.untouched(t)
	})
}

// TestReleaseOfKilledRun: two release commands never run at the same time. A run waits for
// the end of the one that a killed run has begun, and then runs its own.
func TestReleaseOfKilledRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		if err := os.WriteFile(w.layout.UnitFile(releaseUnit), []byte(units.Header), 0o644); err != nil {
			t.Fatal(err)
		}
		w.units[releaseUnit] = &fakeUnit{Unit: systemd.Unit{Name: releaseUnit, Load: "loaded", Active: "activating", Sub: "start", Source: "/old"}}
		if err := w.machine().Recover(t.Context(), "shop"); err != nil || w.units[releaseUnit] == nil {
			t.Fatalf("the recovery stopped it: %v", err)
		}
		w.env(releases)
		ended := time.Time{}
		time.AfterFunc(time.Minute, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			u := w.units[releaseUnit]
			u.Active, u.Sub, ended = "active", "exited", time.Now()
		})
		w.calls = nil
		w.onCall = func(_ int, call string) error {
			if call == "start "+releaseUnit && ended.IsZero() {
				t.Error("a second one was started beside it")
			}
			return nil
		}
		deployed(t, w)
		if ran := w.ran(); len(ran) != 3 || ended.IsZero() {
			t.Errorf("started: %v", ran)
		}
	})
}

// TestReleaseWaitInterrupted: who gives up the waiting does not stop what is waited for.
func TestReleaseWaitInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		if err := os.WriteFile(w.layout.UnitFile(releaseUnit), []byte(units.Header), 0o644); err != nil {
			t.Fatal(err)
		}
		w.units[releaseUnit] = &fakeUnit{Unit: systemd.Unit{Name: releaseUnit, Load: "loaded", Active: "activating", Sub: "start", Source: "/old"}}
		w.env(releases)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.machine().Swap(ctx, "shop"); err == nil {
			t.Error("it did not wait")
		}
		if u := w.units[releaseUnit]; u == nil || u.Active != "activating" {
			t.Errorf("what an earlier run has begun is now %+v", u)
		}
	})
}

// TestReleaseInterrupted: who ends the run ends its release command.
func TestReleaseInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		w.env(releases)
		ctx, cancel := context.WithCancel(t.Context())
		w.starts = func(u *fakeUnit) (string, error) {
			u.Active, u.Sub = "activating", "start"
			cancel()
			return "", context.Canceled
		}
		err := w.machine().Swap(ctx, "shop")
		if err == nil || !strings.Contains(err.Error(), "the rollout was interrupted; generation 1 still serves") {
			t.Error(err)
		}
		if w.running() != "shop@1/1 shop@2/1" {
			t.Errorf("%s run", w.running())
		}
		if rejected, err := store.Of(w.layout, "shop").Rejected(); err != nil || rejected != nil {
			t.Errorf("rejected: %v, %v", rejected, err)
		}
	})
}
