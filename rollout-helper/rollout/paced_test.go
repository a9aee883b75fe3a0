package rollout

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestPaced: no more are under way than there are slots, but for those that take
// longer than a slot lasts.
func TestPaced(t *testing.T) {
	for _, c := range []struct {
		slots  int
		takes  []time.Duration
		begins string
	}{
		{1, []time.Duration{10 * time.Millisecond, 10 * time.Millisecond, time.Minute, time.Minute, 0}, "[0s 10ms 20ms 120ms 220ms]"},
		{2, []time.Duration{time.Minute, 10 * time.Millisecond, 10 * time.Millisecond, 0}, "[0s 0s 10ms 20ms]"},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			begins := make([]time.Duration, len(c.takes))
			paced(len(c.takes), c.slots, 100*time.Millisecond, func(i int, _ func()) {
				begins[i] = time.Since(began)
				wait(t.Context(), c.takes[i])
			})
			if got := fmt.Sprint(begins); got != c.begins {
				t.Errorf("with %d slots they begin after %s, not %s", c.slots, got, c.begins)
			}
			if time.Since(began) < time.Minute {
				t.Error("it does not wait for all")
			}
		})
	}
}

// TestBoots: an instance counts as starting until it listens, but not where
// nothing serves that it could disturb.
func TestBoots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		slots := max(1, runtime.NumCPU()/2)
		nodes := min(256, 2*slots+1)
		for _, serves := range []bool{false, true} {
			w.env(fmt.Sprintf("SYSTEMD_CLUSTER_NODES=%d", nodes), "BEHAVE=boots", "SYSTEMD_CLUSTER_READY_SEC=600", fmt.Sprintf("MORE=%v", serves))
			if err := w.machine().Swap(t.Context(), "shop"); err != nil {
				t.Fatal(err)
			}
			var began []time.Time
			for _, u := range w.units {
				if u.Active == "active" {
					began = append(began, u.started)
				}
			}
			slices.SortFunc(began, time.Time.Compare)
			if len(began) != nodes {
				t.Fatalf("%d run", len(began))
			}
			for i, at := range began[slots:] {
				if waited := at.Sub(began[i]) >= 400*time.Millisecond; waited != serves {
					t.Errorf("others serve: %v; the start %d comes %v after the one %d before it", serves, i+slots, at.Sub(began[i]), slots)
				}
			}
		}
	})
}

// TestManyBoots: however many there are, the pace leaves them most of their time.
func TestManyBoots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		w.env("SYSTEMD_CLUSTER_NODES=256", "BEHAVE=boots", "SYSTEMD_CLUSTER_READY_SEC=300")
		began := time.Now()
		var last time.Duration
		w.onCall = func(_ int, what string) error {
			if strings.HasPrefix(what, "start ") {
				last = time.Since(began)
			}
			return nil
		}
		if err := w.machine().Swap(t.Context(), "shop"); err != nil {
			t.Error(err)
		}
		if last > 30*time.Second {
			t.Errorf("the last is started after %v of 300 s", last)
		}
	})
}

// TestFailedStart: when one instance cannot be started, none is started after it.
func TestFailedStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		w.env("SYSTEMD_CLUSTER_NODES=256", "NEW=1")
		began := 0
		w.starts = func(u *fakeUnit) (string, error) {
			began++
			u.Active, u.Result, u.ExitStatus = "failed", "exit-code", 3
			return "failed", nil
		}
		err := w.machine().Swap(t.Context(), "shop")
		w.starts = nil
		if err == nil || began == 256 || w.running() != "shop@1/1 shop@2/1" {
			t.Errorf("Swap = %v; %d were started; %s run", err, began, w.running())
		}
	})
}
