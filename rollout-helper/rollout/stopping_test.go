package rollout

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"app-rollout/units/store"
)

// TestStopping: once the system is going down, nothing is undone: systemd stops
// everything, and the boot starts what is current.
func TestStopping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		w.env("BEHAVE=late", "SYSTEMD_CLUSTER_READY_SEC=3")
		var after []string
		w.onCall = func(_ int, call string) error {
			if w.stopping = w.stopping || strings.HasPrefix(call, "start "); w.stopping && !strings.HasPrefix(call, "start ") {
				after = append(after, call)
			}
			return nil
		}
		if err := w.machine().Swap(t.Context(), "shop"); err == nil {
			t.Error("a rollout that ran into the end of the system went well")
		}
		if err := w.machine().Recover(t.Context(), "shop"); err != nil {
			t.Error(err)
		}
		for _, call := range after {
			if verb, _, _ := strings.Cut(call, " "); slices.Contains([]string{"stop", "restart", "reset-failed", "reload", "release"}, verb) {
				t.Errorf("%s, when the system was stopping", call)
			}
		}
		if current(t, w) != 1 {
			t.Errorf("the current generation is %d", current(t, w))
		}
	})
}

// TestCancelled: SIGTERM before the commit goes back, and leaves nothing, not
// even a rejected generation.
func TestCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		w.env("BEHAVE=late")
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		err := w.machine().Swap(ctx, "shop")
		if err == nil || !strings.Contains(err.Error(), "interrupted") {
			t.Fatalf("Swap = %v", err)
		}
		if got, want := w.running(), "shop@1/1 shop@2/1"; got != want {
			t.Fatalf("%s run, want %s", got, want)
		}
		w.clean(t)
		if rejected, _ := store.Of(w.layout, "shop").Rejected(); rejected != nil {
			t.Error("an interrupted rollout is remembered as a failed one")
		}
	})
}

// stubborn is a systemd in which somebody else cancels the first stop.
type stubborn struct {
	*world
	canceled string
}

func (s *stubborn) Stop(ctx context.Context, name string) (string, error) {
	if s.canceled == "" {
		s.canceled = name
		return "canceled", nil
	}
	return s.world.Stop(ctx, name)
}

// TestNotStopped: an old instance that goes on after its stop is told, and can be stopped
// as that says. Its clients are told to close no more.
func TestNotStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		s := &stubborn{world: w}
		m := w.machine()
		m.Systemd = s
		w.env("A=2")
		err := m.Swap(t.Context(), "shop")
		said := fmt.Sprint(w.said(), err)
		if s.canceled == "" || !strings.Contains(said, s.canceled+" was to be stopped (canceled) but is active; stop it: systemctl stop "+s.canceled) || current(t, w) != 2 {
			t.Errorf("generation %d, %s", current(t, w), said)
		}
		if w.ended != 1 {
			t.Errorf("what tells clients to close was ended %d times, want 1", w.ended)
		}
		if _, err := s.Stop(t.Context(), s.canceled); err != nil {
			t.Fatal(err)
		}
		if err := m.Swap(t.Context(), "shop"); err != nil || w.running() != "shop@5/3 shop@6/3" {
			t.Errorf("Swap = %v, %s run", err, w.running())
		}
	})
}
