package rollout

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"app-rollout/units"
)

func TestMain(m *testing.M) {
	units.ParserMain()
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
	g, err := w.layout.Store("shop").Current()
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
	})
}

// clean holds that nothing is left but the current generation.
func (w *world) clean(t *testing.T) {
	t.Helper()
	if w.led != nil {
		t.Errorf("traffic is still steered to %v", w.led)
	}
	files, err := w.machine().unitFiles("shop")
	if err != nil || len(files) > 0 {
		t.Errorf("unit files are left: %v %v", files, err)
	}
	want := current(t, w)
	for name, u := range w.units {
		if u.Live() && u.generation != want {
			t.Errorf("%s runs generation %d, current is %d", name, u.generation, want)
		}
		if u.Active == "failed" {
			t.Errorf("%s is left failed", name)
		}
	}
}

// TestFailures: whatever a new generation does wrong, the old one is untouched
// and the reason is told.
func TestFailures(t *testing.T) {
	for _, c := range []struct{ behave, why string }{
		{"exits", " exited with status 3; see: journalctl -b -u shop@"},
		{"deaf", "does not listen on 0.0.0.0:3000"},
		{"elsewhere", "does not listen on 0.0.0.0:3000"},
		{"beside", "listens on 127.0.0.1:3000, but the running generation on 0.0.0.0:3000"},
		{"dies", "exited with status 3 while it was watched"},
		{"mute", "answers GET / with status 500"},
	} {
		t.Run(c.behave, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := up(t)
				w.env("BEHAVE=" + c.behave)
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
				if strings.Contains(err.Error(), "\n") {
					t.Errorf("the reason takes more than a line: %q", err)
				}
				if got, want := w.running(), "shop@1/1 shop@2/1"; got != want {
					t.Fatalf("%s run, want %s", got, want)
				}
				w.clean(t)
				rejected, err := w.layout.Store("shop").Rejected()
				if err != nil || rejected == nil || rejected.Number != 2 {
					t.Errorf("rejected is %v, %v", rejected, err)
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

func TestModes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		steps := []struct{ line, running string }{
			{"SYSTEMD_CLUSTER_MODE=0", "shop/2"},
			{"SYSTEMD_CLUSTER_MODE=0", "shop/3"},
			{"SYSTEMD_CLUSTER_MODE=1", "shop@3/4 shop@4/4"},
		}
		for _, c := range steps {
			w.env(c.line)
			if err := w.machine().Swap(t.Context(), "shop"); err != nil {
				t.Fatal(err)
			}
			if got := w.running(); got != c.running {
				t.Fatalf("with %s %s run, want %s", c.line, got, c.running)
			}
			w.clean(t)
		}
	})
}

// TestServiceComesBack: the one service of mode 0 is restarted on its old
// generation when the new one fails.
func TestServiceComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t, "SYSTEMD_CLUSTER_MODE=0")
		w.env("SYSTEMD_CLUSTER_MODE=0", "BEHAVE=deaf")
		err := w.machine().Swap(t.Context(), "shop")
		if err == nil || !strings.Contains(err.Error(), "does not listen on its PORT 3000") {
			t.Fatalf("Swap = %v", err)
		}
		if got, want := w.running(), "shop/1"; got != want {
			t.Fatalf("%s run, want %s", got, want)
		}
		w.clean(t)
	})
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

// TestLookAgain: an edit during the rollout is rolled out too.
func TestLookAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		edited := false
		w.onCall = func(_ int, call string) error {
			if strings.HasPrefix(call, "start") && !edited {
				edited = true
				w.env("NEW=1")
			}
			return nil
		}
		if err := w.machine().Swap(t.Context(), "shop"); err != nil {
			t.Fatal(err)
		}
		if got, want := w.running(), "shop@5/3 shop@6/3"; got != want {
			t.Fatalf("%s run, want %s", got, want)
		}
	})
}

func TestUnsteered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		w.unsteer = "no BPF here"
		if err := w.machine().Swap(t.Context(), "shop"); err != nil {
			t.Fatal(err)
		}
		g, err := w.layout.Store("shop").Current()
		if err != nil {
			t.Fatal(err)
		}
		if g.Rollout.Rung != Migrated || g.Rollout.RungWhy != "no BPF here" {
			t.Errorf("the record says %q (%q)", g.Rollout.Rung, g.Rollout.RungWhy)
		}
		if got, want := w.running(), "shop@3/2 shop@4/2"; got != want {
			t.Fatalf("%s run, want %s", got, want)
		}
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
		if rejected, _ := w.layout.Store("shop").Rejected(); rejected != nil {
			t.Error("an interrupted rollout is remembered as a failed one")
		}
	})
}

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
		store := w.layout.Store("shop")
		if text, err := store.Env(3); err != nil || strings.Contains(string(text), "NEW") {
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
			text, err := w.layout.Store("shop").Env(current(t, w))
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
				if e.Step == "held" && strings.Contains(e.Text, "app-rollout run shop ends the hold") {
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
		if changed, err := m.Changed(); err != nil || len(changed) > 0 {
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

// TestLock: one rollout of an app at a time; a recovery does not wait for it,
// and a rollout that waits can be given up.
func TestLock(t *testing.T) {
	w := newWorld(t)
	m := w.machine()
	release, err := m.lock(t.Context(), "shop", true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.lock(t.Context(), "shop", false); !errors.Is(err, errBusy) {
		t.Errorf("a second lock: %v", err)
	}
	if err := m.Recover(t.Context(), "shop"); err != nil || len(w.calls) > 0 {
		t.Errorf("Recover beside a run: %v, %v", err, w.calls)
	}
	ctx, cancel := context.WithCancel(t.Context())
	given := make(chan error)
	go func() {
		_, err := m.lock(ctx, "shop", true)
		given <- err
	}()
	cancel()
	if err := <-given; !errors.Is(err, context.Canceled) {
		t.Errorf("a lock that is given up: %v", err)
	}
	go func() {
		second, err := m.lock(t.Context(), "shop", true)
		if err == nil {
			second()
		}
		given <- err
	}()
	release()
	if err := <-given; err != nil {
		t.Errorf("a lock that is waited for: %v", err)
	}
}

// TestDamage: whatever a power cut or a person does to the store, it is told,
// nothing is touched, and what a person is told to do mends it.
func TestDamage(t *testing.T) {
	dir := func(w *world) string { return w.layout.State("shop") }
	// away does what the lines say: first the directory goes, then the link.
	away := func(w *world) error {
		err := os.Rename(dir(w)+"/generations/1", dir(w)+"/broken")
		if e := w.machine().Swap(w.t.Context(), "shop"); e == nil || !strings.Contains(e.Error(), "remove it and start anew: app-rollout run shop") {
			w.t.Errorf("without the generation: %v", e)
		}
		return errors.Join(err, os.Remove(dir(w)+"/current"))
	}
	for _, c := range []struct {
		name   string
		damage func(w *world) error
		why    string // "" if nothing is wrong
		mend   func(w *world) error
	}{
		{"the record is cut off", func(w *world) error { return os.Truncate(dir(w)+"/generations/1/generation.json", 40) },
			"generation.json: is damaged", away},
		{"the record is garbage", func(w *world) error {
			return os.WriteFile(dir(w)+"/generations/1/generation.json", []byte("\x00\x00\x00\x00"), 0o600)
		}, "generation.json: is damaged", away},
		{"the record is another's", func(w *world) error {
			return os.WriteFile(dir(w)+"/generations/1/generation.json", []byte(`{"app":"shop","generation":7,"nodes":2,"mode":1,"digest":"x"}`), 0o600)
		}, "belongs to another generation", away},
		{"the unit is gone", func(w *world) error { return os.Remove(dir(w) + "/generations/1/unit") },
			"unit: is missing", away},
		{"current dangles", func(w *world) error { return os.Rename(dir(w)+"/generations/1", dir(w)+"/elsewhere") },
			"leads to a generation that is gone", func(w *world) error { return os.Remove(dir(w) + "/current") }},
		{"current dangles, and is put right", func(w *world) error {
			return errors.Join(os.Remove(dir(w)+"/current"), os.Symlink("generations/9", dir(w)+"/current"))
		}, "leads to a generation that is gone", func(w *world) error {
			return errors.Join(os.Remove(dir(w)+"/current"), os.Symlink("generations/1", dir(w)+"/current"))
		}},
		{"current leads to nowhere", func(w *world) error {
			return errors.Join(os.Remove(dir(w)+"/current"), os.Symlink("/etc", dir(w)+"/current"))
		}, "does not lead to a generation", func(w *world) error { return os.Remove(dir(w) + "/current") }},
		{"the numbers are garbage", func(w *world) error {
			return os.WriteFile(w.layout.Run("shop")+"/instances.json", []byte("{"), 0o600)
		}, "is damaged; remove it", func(w *world) error { return os.Remove(w.layout.Run("shop") + "/instances.json") }},
		{"a generation half written", func(w *world) error {
			return errors.Join(os.Mkdir(dir(w)+"/generations/new", 0o700), os.WriteFile(dir(w)+"/generations/new/env", nil, 0o600))
		}, "", nil},
		{"a generation half removed", func(w *world) error {
			return errors.Join(os.Mkdir(dir(w)+"/generations/7", 0o700), os.WriteFile(dir(w)+"/generations/7/env", nil, 0o600))
		}, "", nil},
		{"a commit half done", func(w *world) error { return os.Symlink("generations/1", dir(w)+"/current.tmp") }, "", nil},
		{"files half written", func(w *world) error {
			return errors.Join(os.WriteFile(dir(w)+"/next.17.tmp", []byte("4"), 0o600),
				os.WriteFile(dir(w)+"/generations/1/generation.json.17.tmp", []byte("{"), 0o600),
				os.WriteFile(w.layout.Run("shop")+"/instances.json.17.tmp", []byte("{"), 0o600),
				os.WriteFile(w.layout.UnitFile("shop@7.service.tmp"), []byte(units.Header), 0o600))
		}, "", nil},
		{"the next number is lost", func(w *world) error { return os.Remove(dir(w) + "/next") }, "", nil},
		{"the next number is garbage", func(w *world) error { return os.WriteFile(dir(w)+"/next", []byte("x"), 0o600) }, "", nil},
		{"rejected names one that is gone", func(w *world) error { return os.WriteFile(dir(w)+"/rejected", []byte("12\n"), 0o600) }, "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := up(t)
				for _, u := range w.units {
					u.proved = true
				}
				w.check = func() { w.holds(t, 2) }
				if err := c.damage(w); err != nil {
					t.Fatal(err)
				}
				files := w.files()
				m := w.machine()
				w.env("NEW=1")
				err := m.Swap(t.Context(), "shop")
				if c.why == "" {
					if err != nil {
						t.Fatal(err)
					}
					w.clean(t)
					w.settled(t, scenario{asks: []string{""}})
					return
				}
				if err == nil || !strings.Contains(err.Error(), c.why) || strings.Contains(err.Error(), "\n") {
					t.Fatalf("Swap = %v, want %q", err, c.why)
				}
				_ = m.Recover(t.Context(), "shop")
				_ = m.Boot(t.Context(), "shop")
				_ = m.Rollback(t.Context(), "shop")
				if got, want := w.running(), "shop@1/1 shop@2/1"; got != want {
					t.Errorf("%s run, want %s", got, want)
				}
				for _, f := range files {
					if _, err := os.Lstat(f); err != nil {
						t.Errorf("removed: %s", f)
					}
				}
				if err := c.mend(w); err != nil {
					t.Fatal(err)
				}
				if err := m.Swap(t.Context(), "shop"); err != nil {
					t.Fatalf("mended, but: %v", err)
				}
				w.clean(t)
				w.settled(t, scenario{asks: []string{""}})
			})
		})
	}
}

// files are all files of the store.
func (w *world) files() (files []string) {
	err := filepath.WalkDir(w.layout.State("shop"), func(path string, _ os.DirEntry, err error) error {
		files = append(files, path)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return files
}
