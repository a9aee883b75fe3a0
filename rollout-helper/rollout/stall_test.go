package rollout

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestBusyIsReady: an instance on which connections wait is committed if it has
// accepted any, or goes on taking them one by one, or lets them wait for a moment. The
// first is not asked about again, for that costs a look at each connection.
func TestBusyIsReady(t *testing.T) {
	for behave, most := range map[string]int{"busy": 2, "slow": 1000, "pauses": 1000, "blocks": 1000, "ok": 0} {
		for _, boot := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				w := up(t)
				w.env("BEHAVE=" + behave)
				w.calls = nil
				began, do := time.Now(), (*Machine).Swap
				if boot {
					w.reboot()
					do = (*Machine).Boot
				}
				if err := do(w.machine(), t.Context(), "shop"); err != nil || current(t, w) != 2 {
					t.Errorf("%s, boot %v: the current generation is %d: %v", behave, boot, current(t, w), err)
				}
				asked := len(slices.DeleteFunc(w.calls, func(call string) bool { return !strings.HasPrefix(call, "waiting ") }))
				if asked > most {
					t.Errorf("%s, boot %v: asked %d times who waits", behave, boot, asked)
				}
				if took := time.Since(began); took > 3*time.Second+2*stallTime+time.Second {
					t.Errorf("%s, boot %v: it took %v", behave, boot, took)
				}
			})
		}
	}
}

// TestStalledIsStopped: what waits on an instance that accepts nothing is not waited
// for, because only its stop gives that to the old instances.
func TestStalledIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		w.env("BEHAVE=stalls")
		w.has.Owed = 1
		began := time.Now()
		if err := w.machine().Swap(t.Context(), "shop"); err == nil {
			t.Fatal("an instance that accepts nothing is committed")
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("it took %v: the queue of an instance that accepts nothing was waited for", took)
		}
		w.clean(t)
	})
}

// TestStalledAfterKill: nor does the recovery wait for it, when the run was killed in the
// watch. What waits on an instance that has only been busy it waits for.
func TestStalledAfterKill(t *testing.T) {
	for behave, least := range map[string]time.Duration{"stalls": 0, "busy": 25 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			w := up(t)
			w.env("BEHAVE=" + behave)
			w.has.Owed = 1
			var killed *world
			w.onCall = func(_ int, call string) error {
				if strings.HasPrefix(call, "waiting ") && killed == nil {
					killed = w.copy(t)
				}
				return nil
			}
			_ = w.machine().Swap(t.Context(), "shop")
			if killed == nil {
				t.Fatal("nobody waited")
			}
			killed.has = w.has
			began := time.Now()
			if err := killed.machine().Recover(t.Context(), "shop"); err != nil {
				t.Errorf("%s: %v", behave, err)
			}
			if took := time.Since(began); took < least || took > least+10*time.Second {
				t.Errorf("%s: it took %v", behave, took)
			}
			if got, want := killed.running(), "shop@1/1 shop@2/1"; got != want {
				t.Errorf("%s: %s run, want %s", behave, got, want)
			}
			killed.clean(t)
		})
	}
}

// TestRestartedIsAskedAgain: an answer is of one run of an instance. At boot an
// instance may be restarted before all are ready.
func TestRestartedIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		w.reboot()
		asked, refused := 0, false
		w.onCall = func(_ int, call string) error {
			switch {
			case call == "ask shop@1.service":
				if asked++; asked == 1 {
					u := w.units["shop@1.service"]
					u.Invocation, u.Restarts = "restarted", 1
				}
			case call == "ask shop@2.service" && !refused:
				refused = true
				return errors.New("does not answer yet")
			}
			return nil
		}
		if err := w.machine().Boot(t.Context(), "shop"); err != nil {
			t.Fatal(err)
		}
		if asked < 2 {
			t.Errorf("it was asked %d times", asked)
		}
	})
}
