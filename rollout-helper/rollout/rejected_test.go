package rollout

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/synctest"

	"app-rollout/units/store"
)

// TestNoLongerRejected: what failed once and became ready since is not rejected, and
// neither is what failed by no fault of its own.
func TestNoLongerRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		disk := store.Of(w.layout, "shop")
		rejected := func(want int) {
			t.Helper()
			g, err := disk.Rejected()
			if err != nil || want == 0 && g != nil || want > 0 && (g == nil || g.Number != want) {
				t.Errorf("rejected is %+v, %v, want %d", g, err, want)
			}
		}
		fails := func(verb string) {
			t.Helper()
			w.onCall = func(_ int, call string) error {
				if strings.HasPrefix(call, verb) && w.units["shop@3.service"] != nil {
					return errFault
				}
				return nil
			}
			if err := w.machine().Swap(t.Context(), "shop"); err == nil || !strings.Contains(err.Error(), "generation 1 still serves") {
				t.Fatalf("Swap = %v", err)
			}
			w.onCall = nil
		}
		w.env("NEW=1")
		fails("steer")
		rejected(0)
		w.breaks("exits")
		if err := w.machine().Swap(t.Context(), "shop"); err == nil {
			t.Fatal("it succeeds")
		}
		w.breaks("")
		failed, err := disk.Next()
		if err != nil {
			t.Fatal(err)
		}
		failed--
		rejected(failed)
		if err := os.Rename(disk.Dir(failed), w.layout.Path("/away")); err != nil {
			t.Fatal(err)
		}
		if err := copyTree(w.layout.Path("/away"), disk.Dir(failed)); err != nil {
			t.Fatal(err)
		}
		w.deploys(t, "NEW=1")
		if _, err := os.Lstat(w.layout.State("shop") + "/rejected"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("it would count again when the generation that became ready is gone: %v", err)
		}
		if err := w.machine().Rollback(t.Context(), "shop"); err != nil {
			t.Fatal(err)
		}
		rejected(0)
		// 0.1.0 left it there.
		if err := errors.Join(copyTree(w.layout.Path("/away"), disk.Dir(failed)), os.WriteFile(w.layout.State("shop")+"/rejected", fmt.Appendln(nil, failed), 0o600)); err != nil {
			t.Fatal(err)
		}
		rejected(0)
	})
}

// TestNotItsFault: a release is rejected for what it does itself. What somebody else has
// done to it, or systemd has not done for it, the next run tries again, and a boot too;
// but not the same run.
func TestNotItsFault(t *testing.T) {
	job := func(result string, err error) func(*world) {
		return func(w *world) { w.starts = func(*fakeUnit) (string, error) { return result, err } }
	}
	for _, c := range []struct {
		name   string
		serves bool // another generation does
		make   func(w *world)
		says   string
		its    bool
	}{
		{name: "its port is taken", make: func(w *world) { w.strange = true; w.breaks("exits") }, says: "its PORT 3000 is taken by stranger"},
		{name: "it waits for its port", make: func(w *world) { w.strange = true; w.breaks("deaf") }, says: "its PORT 3000 is taken by stranger"},
		{name: "somebody else listens there too", make: func(w *world) { w.strange = true }, says: "stranger.service listens on 0.0.0.0:3000 too"},
		{name: "so while another generation serves", serves: true, make: func(w *world) { w.strange = true }, says: "stranger.service listens on 0.0.0.0:3000 too"},
		{name: "the port is taken, but it serves there", serves: true, make: func(w *world) { w.strange = true; w.breaks("exits") }, says: "exited with status 3", its: true},
		{name: "it exits", make: func(w *world) { w.breaks("exits") }, says: "exited with status 3", its: true},
		{name: "systemd has no answer", serves: true, make: job("", errFault), says: "could not be started: a fault"},
		{name: "another job", serves: true, make: job("canceled", nil), says: "was cancelled by another job"},
		{name: "what it requires", serves: true, make: job("dependency", nil), says: "a unit that it requires failed"},
		{name: "what a drop-in asserts", make: job("assert", nil), says: "an assertion of its unit does not hold"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				if c.serves {
					w = up(t)
				}
				w.env("NEW=1", "SYSTEMD_CLUSTER_READY_SEC=1")
				c.make(w)
				m := w.machine()
				if err := m.Swap(t.Context(), "shop"); err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("Swap = %v, want %q", err, c.says)
				}
				g, err := store.Of(w.layout, "shop").Rejected()
				if err != nil || (g != nil) != c.its {
					t.Errorf("rejected: %+v, %v", g, err)
				}
				if changed, err := m.Changed(t.Context()); err != nil || len(changed) > 0 {
					t.Errorf("the same run goes on with %v, %v", changed, err)
				}
				if c.its {
					return
				}
				w.strange, w.starts = false, nil
				w.breaks("")
				w.reboot()
				next := current(t, w) + 2
				if !c.serves {
					next = 2
				}
				if err := w.machine().Boot(t.Context(), "shop"); err != nil || current(t, w) != next {
					t.Errorf("Boot = %v, the current generation is %d, want %d", err, current(t, w), next)
				}
			})
		})
	}
}
