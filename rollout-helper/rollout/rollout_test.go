package rollout

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"app-rollout/units"
	"app-rollout/units/dotenv"
	"app-rollout/units/store"
)

func TestMain(m *testing.M) {
	dotenv.ParserMain()
	os.Exit(m.Run())
}

// up brings up the first generation.
func up(t *testing.T, lines ...string) *world {
	t.Helper()
	w := newWorld(t)
	w.env(lines...)
	if err := w.machine().Swap(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	return w
}

func current(t *testing.T, w *world) int {
	t.Helper()
	g, err := store.Of(w.layout, "shop").Current()
	if err != nil {
		t.Fatal(err)
	}
	if g == nil {
		return 0
	}
	return g.Number
}

func TestDeploys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		if got, want := w.running(), "shop@1/1 shop@2/1"; got != want {
			t.Fatalf("after the first rollout %s run, want %s", got, want)
		}
		for i, want := range []string{"shop@3/2 shop@4/2", "shop@5/3 shop@6/3"} {
			if err := w.machine().Swap(t.Context(), "shop"); err != nil {
				t.Fatal(err)
			}
			if got := w.running(); got != want {
				t.Fatalf("after rollout %d %s run, want %s", i+2, got, want)
			}
			w.clean(t)
		}
		// What a rollout has started goes without a daemon-reload, whether the
		// next one succeeds or fails.
		w.calls = nil
		if err := w.machine().Swap(t.Context(), "shop"); err != nil {
			t.Fatal(err)
		}
		w.env("BEHAVE=exits")
		if err := w.machine().Swap(t.Context(), "shop"); err == nil {
			t.Fatal("it succeeds")
		}
		w.clean(t)
		if slices.Contains(w.calls, "reload") {
			t.Errorf("needless: %v", w.calls)
		}
	})
}

// clean holds that nothing is left but the current generation.
func (w *world) clean(t *testing.T) {
	t.Helper()
	if w.led != nil {
		t.Errorf("traffic is still steered to %v", w.led)
	}
	want := current(t, w)
	w.tidy(t, want)
	for name, u := range w.units {
		if u.Live() && u.generation != want {
			t.Errorf("%s runs generation %d, current is %d", name, u.generation, want)
		}
		if u.Active == "failed" {
			t.Errorf("%s is left failed", name)
		}
	}
}

// tidy holds that only units that run have files of their own, of a generation,
// and that systemd would start nothing else.
func (w *world) tidy(t *testing.T, generation int) {
	t.Helper()
	files, _ := filepath.Glob(w.layout.UnitFile("*"))
	for _, path := range files {
		text, err := os.ReadFile(path)
		u := w.units[filepath.Base(path)]
		if err != nil || u == nil || !u.Live() || !isUnitOf(text, "shop", generation) {
			t.Errorf("left behind: %s (%v)", path, err)
		}
	}
	if g, err := store.Of(w.layout, "shop").Generation(generation); err == nil {
		made, _ := filepath.Glob(w.layout.Path(units.GeneratorDir + "/shop*.service"))
		for _, path := range made {
			if filepath.Base(path) != g.Unit("shop") {
				t.Errorf("left behind, and can be started: %s", path)
			}
		}
	}
	for name, u := range w.units {
		if !u.Live() && u.WantedBy != nil {
			t.Errorf("%s is gone, but wanted by %v", name, u.WantedBy)
		}
	}
}

// TestFailures: whatever a new generation does wrong, the old one is untouched
// and the reason is told.
func TestFailures(t *testing.T) {
	for _, c := range []struct{ behave, why string }{
		{"exits", " exited with status 3"},
		{"deaf", "does not listen on 0.0.0.0:3000"},
		{"elsewhere", "does not listen on 0.0.0.0:3000 as the running instances do but on 0.0.0.0:4000"},
		{"beside", "listens on 127.0.0.1:3000, but the running generation on 0.0.0.0:3000"},
		{"dies", "exited with status 3 while it was watched"},
		{"mute", "answers GET / with status 500"},
		{"loads", "was not ready after 60 s: it listens on 0.0.0.0:3000, but has not accepted the connection that was made to it"},
		{"answered-by-another", "exited with status 3 after it was ready"},
		{"stalls", "has accepted none of the connections that wait for it, while it was watched"},
		{"stalls-late", "has accepted none of the connections that wait for it, while it was watched"},
		{"sours", "answers GET / with status 500 while it was watched"},
		{"closes-late", "does not listen on 0.0.0.0:3000 as the running instances do, while it was watched"},
		{"closes", "does not listen on 0.0.0.0:3000 as the running instances do, while it was watched"},
	} {
		t.Run(c.behave, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := up(t)
				w.env("BEHAVE="+c.behave, "SYSTEMD_CLUSTER_HEALTH_PATH=/")
				w.check = func() {
					if !w.whole() || w.misled() {
						t.Errorf("no whole generation serves at call %d (%s), or an unready one does", len(w.calls), w.calls[len(w.calls)-1])
					}
				}
				err := w.machine().Swap(t.Context(), "shop")
				w.check = nil
				if err == nil || !strings.Contains(err.Error(), c.why) || !strings.Contains(err.Error(), "generation 1 still serves") {
					t.Fatalf("Swap = %v, want %q", err, c.why)
				}
				var ended *RunError
				if !errors.As(err, &ended) || strings.Contains(err.Error(), "\n") {
					t.Fatalf("Swap = %T %q, want one line", err, err)
				}
				do := "see: journalctl -b -u " + ended.Unit + "; when that is mended: app-rollout run shop"
				if c.behave == "beside" {
					do = "see: journalctl -b -u " + ended.Unit + "; to change the address, stop the app (systemctl stop 'shop@*.service'), then: app-rollout run shop"
				}
				if !strings.HasPrefix(ended.Text, ended.Unit+" ") || ended.Remedy != do {
					t.Errorf("%q of %s is to be mended by %q, not by %q", ended.Text, ended.Unit, ended.Remedy, do)
				}
				if got, want := w.running(), "shop@1/1 shop@2/1"; got != want {
					t.Fatalf("%s run, want %s", got, want)
				}
				w.clean(t)
				rejected, err := store.Of(w.layout, "shop").Rejected()
				if err != nil || rejected == nil || rejected.Number != 2 {
					t.Fatalf("rejected is %v, %v", rejected, err)
				}
				// It is read again after a reboot.
				do = strings.Replace(do, "journalctl -b ", "journalctl ", 1)
				remedy := regexp.MustCompile(`--since=@\d+ --until=@\d+ `).ReplaceAllString(rejected.Rollout.Remedy, "")
				if r := rejected.Rollout; !strings.Contains(r.Reason, c.why) || strings.Contains(r.Reason, ";") || !strings.HasPrefix(do, remedy) || remedy == "" {
					t.Errorf("the receipt says %q and %q", r.Reason, r.Remedy)
				}
				// The next number is a new one, and a good .env is rolled out.
				w.env()
				if err := w.machine().Swap(t.Context(), "shop"); err != nil {
					t.Fatal(err)
				}
				if got, want := w.running(), "shop@5/3 shop@6/3"; got != want {
					t.Fatalf("%s run, want %s", got, want)
				}
			})
		})
	}
}

func TestStranger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		w.strange = true
		err := w.machine().Swap(t.Context(), "shop")
		if err == nil || !strings.Contains(err.Error(), "stranger.service listens on 0.0.0.0:3000 too") {
			t.Fatalf("Swap = %v", err)
		}
		w.clean(t)
	})
}

func TestScaling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		for _, c := range []struct{ nodes, running string }{
			{"4", "shop@1/1 shop@2/1 shop@3/2 shop@4/2"},
			{"1", "shop@1/1"},
			{"2", "shop@1/1 shop@5/4"},
			{"2", "shop@6/5 shop@7/5"},
		} {
			w.env("SYSTEMD_CLUSTER_NODES=" + c.nodes)
			if err := w.machine().Swap(t.Context(), "shop"); err != nil {
				t.Fatal(err)
			}
			if got := w.running(); got != c.running {
				t.Fatalf("with %s nodes %s run, want %s", c.nodes, got, c.running)
			}
		}
	})
}

// TestWarms: a health check that fails at first is asked again.
func TestWarms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		w.env("BEHAVE=warms", "SYSTEMD_CLUSTER_HEALTH_PATH=/")
		if err := w.machine().Swap(t.Context(), "shop"); err != nil {
			t.Fatal(err)
		}
		if got, want := w.running(), "shop@3/2 shop@4/2"; got != want {
			t.Fatalf("%s run, want %s", got, want)
		}
	})
}

// TestFirstStart: what is bad from the first is never recorded as ready, with a
// PORT, and without, where staying active is all that can be seen; nor what the
// boot has started.
func TestFirstStart(t *testing.T) {
	for _, c := range []struct {
		behave, unsteer string
		port            bool
		why             string // "" if it becomes ready
	}{
		{behave: "dies", port: true, why: "exited with status 3 while it was watched"},
		{behave: "dies", why: "exited with status 3 while it was watched"},
		{behave: "mute", port: true, why: "answers GET / with status 500"},
		{behave: "mute", port: true, unsteer: "no BPF here", why: "answers GET / with status 500"},
		{behave: "ok"},
		{behave: "ok", port: true, unsteer: "no BPF here"},
	} {
		for _, boot := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.unsteer = c.unsteer
				if lines := []string{"SYSTEMD_CLUSTER_WATCH_SEC=5", "BEHAVE=" + c.behave}; c.port {
					w.env(append(lines, "SYSTEMD_CLUSTER_HEALTH_PATH=/")...)
				} else {
					w.portless(lines...)
				}
				began, do := time.Now(), (*Machine).Swap
				if boot {
					w.reboot()
					do = (*Machine).Boot
				}
				err := do(w.machine(), t.Context(), "shop")
				if c.why == "" {
					if err != nil || current(t, w) != 1 {
						t.Errorf("%+v, boot %v: the current generation is %d: %v", c, boot, current(t, w), err)
					}
					if took := time.Since(began); took < 5*time.Second {
						t.Errorf("%+v, boot %v: ready after %v", c, boot, took)
					}
					return
				}
				if err == nil || !strings.Contains(err.Error(), c.why) || current(t, w) != 0 {
					t.Errorf("%+v, boot %v: the current generation is %d: %v, want %q", c, boot, current(t, w), err, c.why)
				}
			})
		}
	}
}

func TestGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		if err := os.Remove(w.layout.Env("shop")); err != nil {
			t.Fatal(err)
		}
		if err := w.machine().Swap(t.Context(), "shop"); err != nil {
			t.Fatal(err)
		}
		if got := w.running(); got != "" {
			t.Fatalf("%s run", got)
		}
	})
}

// TestDanglingStopsNothing: a link that leads nowhere is an error, not an app
// that is gone.
func TestDanglingStopsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		env := w.layout.Env("shop")
		if err := errors.Join(os.Remove(env), os.Symlink("/srv/shop/.env", env)); err != nil {
			t.Fatal(err)
		}
		if err := w.machine().Swap(t.Context(), "shop"); err == nil {
			t.Fatal("a dangling link is taken for an app that is gone")
		}
		if got, want := w.running(), "shop@1/1 shop@2/1"; got != want {
			t.Fatalf("%s run, want %s", got, want)
		}
	})
}

// TestLookAgain: each edit during the run is rolled out too, but a run does not
// go on for ever; and a .env that goes stops the app.
func TestLookAgain(t *testing.T) {
	for _, c := range []struct {
		edits   int
		removed bool
		running string
		why     string
	}{
		{edits: 1, running: "shop@5/3 shop@6/3"},
		{edits: 3, running: "shop@9/5 shop@10/5"},
		{edits: 1000, running: "shop@21/11 shop@22/11", why: "when it is at rest: app-rollout run shop"},
		{removed: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := up(t)
			edits := 0
			w.onCall = func(_ int, call string) error {
				if odd := regexp.MustCompile(`^start shop@\d*[13579]\.`); odd.MatchString(call) && edits < c.edits {
					edits++
					w.env(fmt.Sprint("NEW=", edits))
				}
				if strings.HasPrefix(call, "start") && c.removed {
					return os.RemoveAll(w.layout.Env("shop"))
				}
				return nil
			}
			err := w.machine().Swap(t.Context(), "shop")
			if (err != nil) != (c.why != "") || err != nil && !strings.Contains(err.Error(), c.why) {
				t.Errorf("%+v: Swap = %v", c, err)
			}
			got := strings.Fields(w.running())
			slices.SortFunc(got, func(a, b string) int { return len(a) - len(b) })
			if got := strings.Join(got, " "); got != c.running {
				t.Errorf("%+v: %s run", c, got)
			}
			if c.why == "" {
				return
			}
			// The .env is at rest.
			w.onCall = nil
			if err := w.machine().Swap(t.Context(), "shop"); err != nil || w.running() != "shop@23/12 shop@24/12" {
				t.Errorf("Swap = %v, %s run", err, w.running())
			}
		})
	}
}

func TestUnsteered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		w.unsteer = "no BPF here"
		if err := w.machine().Swap(t.Context(), "shop"); err != nil {
			t.Fatal(err)
		}
		g, err := store.Of(w.layout, "shop").Current()
		if err != nil {
			t.Fatal(err)
		}
		if g.Rollout.Traffic != Migrated || g.Rollout.TrafficReason != "no BPF here" {
			t.Errorf("the record says %q (%q)", g.Rollout.Traffic, g.Rollout.TrafficReason)
		}
		if got, want := w.running(), "shop@3/2 shop@4/2"; got != want {
			t.Fatalf("%s run, want %s", got, want)
		}
		w.env("BEHAVE=mute", "SYSTEMD_CLUSTER_HEALTH_PATH=/")
		if err := w.machine().Swap(t.Context(), "shop"); err == nil || !strings.Contains(err.Error(), "answers GET / with status 500") {
			t.Errorf("Swap = %v", err)
		}
		w.clean(t)
	})
}

func TestRefused(t *testing.T) {
	for _, c := range []struct{ line, why string }{
		{"SYSTEMD_USER=other", "two users cannot share a port"},
		{"PORT=4000", "is to listen on port 4000, but listens on 3000"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := up(t)
			w.env(c.line)
			err := w.machine().Swap(t.Context(), "shop")
			if err == nil || !strings.Contains(err.Error(), c.why) || !strings.Contains(err.Error(), "systemctl stop 'shop@*.service'") {
				t.Fatalf("Swap = %v, want %q", err, c.why)
			}
			if got, want := w.running(), "shop@1/1 shop@2/1"; got != want {
				t.Fatalf("%s run, want %s", got, want)
			}
		})
	}
}
