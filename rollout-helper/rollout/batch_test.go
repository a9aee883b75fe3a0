package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// app0 … are as many apps.
func someApps(n int) (apps []string) {
	for i := range n {
		apps = append(apps, fmt.Sprintf("app%d", i))
	}
	return apps
}

// TestOneReload: the apps of a run share one daemon-reload before they start, and one at
// the end. One that takes long to prepare keeps the others waiting for two seconds, and
// then has a daemon-reload of its own.
func TestOneReload(t *testing.T) {
	const minute = time.Minute
	for _, c := range []struct {
		name    string
		prepare func(i int) time.Duration
		asks    func(i int) bool // before it starts
		owes    func(i int) bool // at its end
		reloads string           // when
	}{
		{"all new", func(int) time.Duration { return 100 * time.Millisecond }, func(int) bool { return true }, never, "[2s]"},
		{"some new", func(int) time.Duration { return 100 * time.Millisecond }, func(i int) bool { return i%3 == 0 }, never, "[2s]"},
		{"a slow one", func(i int) time.Duration {
			if i == 3 {
				return minute
			}
			return 100 * time.Millisecond
		}, func(int) bool { return true }, never, "[4.5s 1m0.1s]"},
		{"slow, and not new", func(i int) time.Duration {
			if i == 3 {
				return minute
			}
			return 100 * time.Millisecond
		}, func(i int) bool { return i != 3 }, never, "[4.5s]"},
		{"to tidy up", func(int) time.Duration { return 100 * time.Millisecond }, never, func(i int) bool { return i > 30 }, "[2s]"},
		{"none", func(int) time.Duration { return 0 }, never, never, "[]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				var reloads []time.Duration
				w := newWorld(t)
				w.onCall = func(_ int, what string) error {
					if what == "reload" {
						reloads = append(reloads, time.Since(began))
					}
					return nil
				}
				m := w.machine()
				results := m.eachOf(t.Context(), someApps(40), 2, func(ctx context.Context, app string) error {
					var i int
					fmt.Sscanf(app, "app%d", &i)
					wait(ctx, c.prepare(i))
					if c.asks(i) {
						if err := m.reread(ctx, app); err != nil {
							return err
						}
						if len(reloads) == 0 {
							t.Errorf("%s goes on before any daemon-reload", app)
						}
					}
					if c.owes(i) {
						return m.unload(ctx, app)
					}
					return nil
				})
				for _, r := range results {
					if r.Err != nil {
						t.Errorf("%s: %v", r.App, r.Err)
					}
				}
				if got := fmt.Sprint(reloads); got != c.reloads {
					t.Errorf("daemon-reloads after %s, want %s", got, c.reloads)
				}
			})
		})
	}
}

func never(int) bool { return false }

// TestReloadFails: whoever a daemon-reload was for is told that it failed, and nobody
// else.
func TestReloadFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.onCall = func(_ int, what string) error {
			if what == "reload" {
				return errors.New("no answer")
			}
			return nil
		}
		m := w.machine()
		for _, r := range m.eachOf(t.Context(), []string{"asks", "owes", "other"}, 2, func(ctx context.Context, app string) error {
			switch app {
			case "asks":
				return m.reread(ctx, app)
			case "owes":
				return m.unload(ctx, app)
			}
			return nil
		}) {
			want := map[string]string{"asks": "no answer", "owes": "could not read its files anew: no answer; when that is mended: systemctl daemon-reload"}[r.App]
			if got := fmt.Sprint(r.Err); (r.Err != nil) != (want != "") || !strings.HasSuffix(got, want) && want != "" {
				t.Errorf("%s: %v, want %q", r.App, r.Err, want)
			}
		}
	})
}

// TestTurns: as many begin as there are CPUs for, in the order of the run, and one that
// is cancelled lets the others by.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns([]string{"first", "a", "b", "wide", "c"}, 2)
		var mu sync.Mutex
		var begun []string
		var gives sync.Map
		ctx, cancel := context.WithCancel(t.Context())
		ask := func(app string, cpus int) {
			ctx := ctx
			if app != "wide" {
				ctx = t.Context()
			}
			go func() {
				give, err := turns.wait(ctx, app, cpus)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					begun = append(begun, app)
					gives.Store(app, give)
				}
			}()
			synctest.Wait()
		}
		ask("first", 9) // it gets all that there are
		for _, app := range []string{"c", "b", "a"} {
			ask(app, 1)
		}
		ask("wide", 2)
		want := func(apps string) {
			t.Helper()
			synctest.Wait()
			slices.Sort(begun) // two may begin at once
			if got := strings.Join(begun, " "); got != apps {
				t.Errorf("%s have begun, want %s", got, apps)
			}
		}
		give := func(app string) {
			f, _ := gives.Load(app)
			f.(func())()
		}
		want("first")
		give("first")
		give("first")
		want("a b first")
		give("a")
		want("a b first") // wide needs two
		cancel()
		want("a b c first")
		give("b")
		give("c")
		synctest.Wait()
		if turns.free != 2 {
			t.Errorf("%d CPUs are free, want 2", turns.free)
		}
	})
}

// inBatch makes a machine whose app shop is rolled out beside the app other, which has
// the only turn until give is called.
func inBatch(t *testing.T, w *world) (m *Machine, b *batch, give func()) {
	t.Helper()
	m = w.machine()
	b = newBatch(t.Context(), []string{"other", "shop"}, 1, w.Reload)
	m.batch = b
	give, err := b.turn(t.Context(), "other", 1)
	if err != nil {
		t.Fatal(err)
	}
	return m, b, give
}

// TestOwnClock: an app's time to become ready begins when its turn does.
func TestOwnClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.env("SYSTEMD_CLUSTER_READY_SEC=5")
		m, _, give := inBatch(t, w)
		time.AfterFunc(time.Hour, give)
		began := time.Now()
		if err := m.Swap(t.Context(), "shop"); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took < time.Hour {
			t.Errorf("it was ready after %v, before its turn", took)
		}
		if got, want := w.running(), "shop@1/1 shop@2/1"; got != want {
			t.Errorf("%s run, want %s", got, want)
		}
	})
}

// TestTurnEnds: a turn ends when the instances are ready, when they use no CPU while they
// are not, or after a quarter of the time that they have.
func TestTurnEnds(t *testing.T) {
	for _, c := range []struct {
		name, behave string
		used         func() time.Duration // CPU time
		least, most  time.Duration
	}{
		{"ready", "ok", busy(), 0, tick},
		{"idle", "deaf", func() time.Duration { return time.Second }, glanceTick, 3 * glanceTick},
		{"burns", "deaf", busy(), 10 * time.Second, 10 * time.Second},
		{"not started", "deaf", func() time.Duration { return 0 }, 10 * time.Second, 10 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.used = c.used
				w.env("SYSTEMD_CLUSTER_READY_SEC=40", "BEHAVE="+c.behave)
				m, b, give := inBatch(t, w)
				give()
				began := time.Now()
				var took time.Duration
				next := make(chan struct{})
				w.onCall = func(_ int, what string) error {
					if strings.HasPrefix(what, "start ") && took == 0 {
						took = -1
						go func() {
							give, _ := b.turn(t.Context(), "other", 1)
							took = time.Since(began)
							give()
							close(next)
						}()
					}
					return nil
				}
				if err := m.Swap(t.Context(), "shop"); (err == nil) != (c.behave == "ok") {
					t.Error(err)
				}
				<-next
				if took < c.least || took > c.most {
					t.Errorf("the next turn comes after %v, want %v to %v", took, c.least, c.most)
				}
			})
		})
	}
}

// busy is what a unit has used that uses half of a CPU.
func busy() func() time.Duration {
	var began time.Time
	return func() time.Duration {
		if began.IsZero() {
			began = time.Now()
		}
		return time.Millisecond + time.Since(began)/2
	}
}

// TestCancelledInPlace: a service that waits for its turn is not restarted if the run is
// ended meanwhile, though it has its new unit already.
func TestCancelledInPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t, "SYSTEMD_CLUSTER_MODE=0")
		w.env("SYSTEMD_CLUSTER_MODE=0", "NEW=1")
		m, b, _ := inBatch(t, w)
		w.calls = nil
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		time.AfterFunc(time.Minute, cancel)
		err := m.Swap(ctx, "shop")
		if err == nil || !strings.Contains(err.Error(), "was interrupted") {
			t.Errorf("Swap = %v", err)
		}
		results := []Result{{App: "other"}, {App: "shop"}}
		b.settle(results)
		if results[1].Err != nil {
			t.Error(results[1].Err)
		}
		if slices.ContainsFunc(w.calls, func(call string) bool { return strings.HasPrefix(call, "restart ") }) {
			t.Errorf("it was restarted: %q", w.calls)
		}
		// One for its new unit, one for its old one, and one at the end.
		if n := len(slices.DeleteFunc(slices.Clone(w.calls), func(call string) bool { return call != "reload" })); n != 3 {
			t.Errorf("%d daemon-reloads, want 3", n)
		}
		if got, want := w.running(), "shop/1"; got != want {
			t.Errorf("%s run, want %s", got, want)
		}
		w.clean(t)
	})
}

// TestCrashesInPlace: a service that crashes while it waits for its turn is started from
// its new unit. If the run is ended then, it gets its old one again.
func TestCrashesInPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t, "SYSTEMD_CLUSTER_MODE=0")
		w.env("SYSTEMD_CLUSTER_MODE=0", "NEW=1")
		m, b, _ := inBatch(t, w)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		time.AfterFunc(time.Minute, func() {
			w.mu.Lock()
			w.units["shop.service"].Active = "inactive"
			_, err := w.begin("shop.service") // systemd starts it again
			w.mu.Unlock()
			if got, want := w.running(), "shop/2"; got != want || err != nil {
				t.Errorf("%s run, want %s: %v", got, want, err)
			}
			cancel()
		})
		if err := m.Swap(ctx, "shop"); err == nil || !strings.Contains(err.Error(), "was interrupted; generation 1 runs again") {
			t.Errorf("Swap = %v", err)
		}
		b.settle([]Result{{App: "other"}, {App: "shop"}})
		if got, want := w.running(), "shop/1"; got != want {
			t.Errorf("%s run, want %s", got, want)
		}
		w.clean(t)
	})
}
