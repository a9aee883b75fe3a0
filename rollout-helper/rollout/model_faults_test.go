package rollout

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"app-rollout/units"
	"app-rollout/units/store"
)

// puts right: the service's OnFailure=, then one more run of a good .env, and
// all is well.
func (s scenario) mends(t *testing.T, w *world) {
	t.Helper()
	w.onCall = nil
	if err := w.machine().Recover(t.Context(), "shop"); err != nil {
		t.Errorf("Recover = %v", err)
	}
	// What a late boot has not started, the next run does.
	if s.asks != nil && !s.late {
		w.settled(t, s)
	}
	w.once(t, s)
}

// once more: a run with an .env that is good.
func (w *world) once(t *testing.T, s scenario) {
	t.Helper()
	w.breaks("")
	if s.asks != nil {
		good := []string{watchSec, "MORE=1"}
		if strings.Contains(strings.Join(s.asks, "\n"), "MODE=0") {
			good = append(good, "SYSTEMD_CLUSTER_MODE=0")
			w.check = nil // that one may be restarted in place
		}
		w.env(good...)
	}
	if err := w.machine().Swap(t.Context(), "shop"); err != nil {
		t.Errorf("one more run: %v", err)
	}
	w.settled(t, s)
	if g, err := store.Of(w.layout, "shop").Current(); s.asks != nil && err == nil && g != nil {
		if text, err := store.Of(w.layout, "shop").Env(g.Number); err != nil || !strings.Contains(string(text), "MORE=1") {
			t.Errorf("one more run did not bring what was asked for: generation %d", g.Number)
		}
	}
	w.check = nil
}

// thorough tries a fault of the recovery at each of its calls, not at every
// fourth: `make soak` does.
var thorough = os.Getenv("THOROUGH") != ""

var errFault = errors.New("a fault")

// faults are what is done to a scenario at its k-th call. Unless all is to be
// thorough, the costly ones are done at every second or third call only.
var faults = []struct {
	name  string
	every int
	do    func(t *testing.T, s scenario, k int)
}{
	{"an error once", 1, func(t *testing.T, s scenario, k int) { s.errors(t, func(n int) bool { return n == k }) }},
	{"errors from then on", 4, func(t *testing.T, s scenario, k int) { s.errors(t, func(n int) bool { return n >= k }) }},
	{"SIGTERM", 3, func(t *testing.T, s scenario, k int) {
		w := s.world(t)
		defer w.gone()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w.onCall = func(n int, _ string) error {
			if n == k {
				cancel()
			}
			return nil
		}
		before, was := current(t, w), w.invocations()
		err := s.do(ctx, w)
		s.outcome(t, w, before, was, err)
		s.mends(t, w)
	}},
	{"SIGKILL", 1, func(t *testing.T, s scenario, k int) {
		w, was := s.killed(t, k)
		defer w.gone()
		w.check = func() { w.holds(t, s.need) }
		s.mends(t, w)
		_ = was
	}},
	{"the record goes", 4, func(t *testing.T, s scenario, k int) {
		w := s.world(t)
		defer w.gone()
		w.onCall = func(n int, _ string) error {
			if n == k {
				w.loseRecord()
			}
			return nil
		}
		before, was := current(t, w), w.invocations()
		err := s.do(t.Context(), w)
		if (err != nil) != s.fails {
			t.Errorf("it ends with %v", err)
		}
		s.outcome(t, w, before, was, err)
		w.newService()
		s.mends(t, w)
	}},
	{"SIGKILL, and the record goes", 4, func(t *testing.T, s scenario, k int) {
		w, _ := s.killed(t, k)
		defer w.gone()
		w.loseRecord()
		w.newService()
		w.check = func() { w.holds(t, s.need) }
		s.mends(t, w)
	}},
	{"SIGKILL, and of the recovery", 6, func(t *testing.T, s scenario, k int) {
		all, _ := s.killed(t, k)
		all.calls = nil
		_ = all.machine().Recover(t.Context(), "shop")
		all.gone()
		for j := range all.calls {
			if again(all.calls[:j+1]) || !thorough && (j+k)%4 > 0 {
				continue
			}
			w, _ := s.killed(t, k)
			var w2 *world
			w.onCall = func(n int, _ string) error {
				if n == j && w2 == nil {
					w2 = w.copy(t)
				}
				return nil
			}
			w.calls = nil
			_ = w.machine().Recover(t.Context(), "shop")
			w.gone()
			if w2 == nil {
				break // what is done at once is done in any order: this time it took fewer calls
			}
			w2.check = func() { w2.holds(t, s.need) }
			s.mends(t, w2)
			w2.gone()
			if t.Failed() {
				t.Logf("at call %d of the recovery", j)
				return
			}
		}
	}},
	{"soft-reboot", 3, func(t *testing.T, s scenario, k int) {
		w, _ := s.killed(t, k)
		defer w.gone()
		was := current(t, w)
		w.soft()
		if was > 0 && s.asks != nil && !s.late && w.up() == "" {
			t.Error("nothing is started")
		}
		if err := w.machine().Boot(t.Context(), "shop"); err != nil && !s.fails {
			t.Errorf("Boot = %v", err)
		}
		wait(t.Context(), 10*time.Second) // what was known before is not waited for
		if err := w.machine().Recover(t.Context(), "shop"); err != nil {
			t.Errorf("Recover = %v", err)
		}
		if was > 0 && s.asks != nil && !s.late {
			w.settled(t, s)
		}
		w.once(t, s)
	}},
	{"power cut", 3, func(t *testing.T, s scenario, k int) {
		w, _ := s.killed(t, k)
		defer w.gone()
		before := current(t, w)
		w.reboot()
		w.check = func() { w.holds(t, 0) }
		err := w.machine().Boot(t.Context(), "shop")
		if err != nil && !s.fails {
			t.Errorf("Boot = %v", err)
		}
		if after := current(t, w); after < before {
			t.Errorf("after the boot generation %d is the current one, it was %d", after, before)
		}
		if err := w.machine().Recover(t.Context(), "shop"); err != nil {
			t.Errorf("Recover = %v", err)
		}
		if before > 0 || err == nil {
			w.settled(t, s)
		}
		w.once(t, s)
	}},
}

// loseRecord removes /run/app-rollout. In the sandbox of the service it cannot be made
// again: in the place of it is a link that leads nowhere.
func (w *world) loseRecord() {
	if err := errors.Join(os.RemoveAll(w.layout.Path(units.RunDir)), os.Symlink("nowhere", w.layout.Path(units.RunDir))); err != nil {
		w.t.Error(err)
	}
}

// newService is what systemd does for the next service: RuntimeDirectory=.
func (w *world) newService() {
	dir := w.layout.Path(units.RunDir)
	if _, err := os.Readlink(dir); err != nil {
		return
	}
	if err := errors.Join(os.Remove(dir), os.Mkdir(dir, 0o755)); err != nil {
		w.t.Error(err)
	}
}

// killed is the world that is left when the helper is killed at its k-th call.
func (s scenario) killed(t *testing.T, k int) (*world, map[string]string) {
	t.Helper()
	w := s.world(t)
	defer w.gone()
	var left *world
	w.onCall = func(n int, _ string) error {
		if n == k {
			left = w.copy(t)
		}
		return nil
	}
	was := w.invocations()
	_ = s.do(t.Context(), w)
	if left == nil {
		t.Fatalf("there is no call %d", k)
	}
	return left, was
}

// errors answers some calls with an error.
func (s scenario) errors(t *testing.T, fails func(int) bool) {
	t.Helper()
	w := s.world(t)
	defer w.gone()
	w.onCall = func(n int, _ string) error {
		if fails(n) {
			return errFault
		}
		return nil
	}
	before, was := current(t, w), w.invocations()
	err := s.do(t.Context(), w)
	s.outcome(t, w, before, was, err)
	s.mends(t, w)
}

// among says whether one of these units is an instance of a generation.
func (w *world) among(names map[string]string, generation int) bool {
	given, err := store.Of(w.layout, "shop").Instances()
	for name := range names {
		if i, ok := units.ParseInstance(name); ok && err == nil && slices.Contains(given.Generations[generation], i.Number) {
			return true
		}
	}
	return false
}

// outcome checks what a rollout says against what it did.
func (s scenario) outcome(t *testing.T, w *world, before int, was map[string]string, err error) {
	t.Helper()
	after := current(t, w)
	if s.restart {
		if after != before {
			t.Errorf("a restart of generation %d made %d the current one", before, after)
		}
		if committed := !w.among(was, after); committed || s.need == 0 {
			return
		}
		if err == nil {
			t.Error("nothing is said to have failed, but nothing was restarted")
		}
	} else if err == nil && after == before && s.asks != nil && !s.boots {
		t.Errorf("nothing is said to have failed, but generation %d is still the current one", before)
	}
	if after != before || s.need == 0 {
		return
	}
	for name, id := range was {
		if u := w.units[name]; u == nil || u.Invocation != id {
			t.Errorf("%s was touched, though nothing was committed", name)
		}
	}
}
