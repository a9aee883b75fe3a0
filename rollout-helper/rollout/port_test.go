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
	"app-rollout/units/store"
)

// newcomer makes another app, blog, that has not been ready.
func (w *world) newcomer(lines ...string) {
	w.t.Helper()
	text := "SYSTEMD_CLUSTER_MODE=1\nSYSTEMD_EXEC_START=/usr/bin/shop\nSYSTEMD_USER=blog\n" + strings.Join(lines, "\n") + "\n"
	if err := os.WriteFile(w.layout.Env("blog"), []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// neighbour makes it one that has been ready, on these ports.
func (w *world) neighbour(ports []int, lines ...string) {
	w.t.Helper()
	w.newcomer(lines...)
	g := w.freeze("blog")
	g.Ports = ports
	if err := store.Of(w.layout, "blog").Commit(g); err != nil {
		w.t.Fatal(err)
	}
}

// freeze makes a generation of an app.
func (w *world) freeze(app string) *store.Generation {
	w.t.Helper()
	spec, err := w.layout.Read(app)
	if err != nil {
		w.t.Fatal(err)
	}
	g, err := store.Of(w.layout, app).Freeze(spec, time.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	return g
}

// neighbourRuns makes one of its instances run.
func (w *world) neighbourRuns(name, behave string) {
	w.units[name] = &fakeUnit{behave: behave, started: time.Now(), Unit: systemd.Unit{
		Name: name, Load: "loaded", Active: "active", Sub: "running", ControlGroup: "/system.slice/" + name}}
}

// kinds are the kinds of run that may start an app, by name.
var kinds = map[string]func(*Machine, context.Context, string) error{
	"named": (*Machine).Swap, "for all": (*Machine).Deploy, "boot": (*Machine).Boot,
}

// untouched checks that a run has neither started nor frozen anything.
func (w *world) untouched(t *testing.T) {
	t.Helper()
	if got := w.running(); got != "" {
		t.Errorf("%s run", got)
	}
	for _, call := range w.calls {
		if strings.HasPrefix(call, "start ") {
			t.Error(call)
		}
	}
	if numbers, err := store.Of(w.layout, "shop").Generations(); err != nil || len(numbers) > 0 {
		t.Errorf("generations %v are frozen, %v", numbers, err)
	}
}

// TestPortOfAnother: a PORT that belongs to another app is refused by name before
// anything is touched, in every kind of run, whether or not that app runs.
func TestPortOfAnother(t *testing.T) {
	for _, c := range []struct {
		name  string
		make  func(w *world)
		taken bool
	}{
		{"its PORT", func(w *world) { w.neighbour(nil, "PORT=3000") }, true},
		{"one that it had when it became ready", func(w *world) { w.neighbour([]int{3000, 9100}) }, true},
		{"another one", func(w *world) { w.neighbour([]int{3001}, "PORT=3001") }, false},
		{"of an app that a person has stopped", func(w *world) {
			w.neighbour(nil, "PORT=3000")
			if err := os.Remove(w.layout.Env("blog")); err != nil {
				w.t.Fatal(err)
			}
		}, false},
		{"of one whose link leads nowhere", func(w *world) {
			w.neighbour(nil, "PORT=3000")
			if err := os.Remove(w.layout.Env("blog")); err != nil {
				w.t.Fatal(err)
			}
			if err := os.Symlink("/gone", w.layout.Env("blog")); err != nil {
				w.t.Fatal(err)
			}
		}, true},
	} {
		for kind, do := range kinds {
			t.Run(c.name+"/"+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					c.make(w)
					w.env()
					err := do(w.machine(), t.Context(), "shop")
					if !c.taken {
						if err != nil || w.running() != "shop@1/1 shop@2/1" {
							t.Errorf("%v, %s run", err, w.running())
						}
						return
					}
					const want = "shop.env: port 3000 belongs to blog; give shop another PORT, then: app-rollout run shop"
					if err == nil || !strings.HasSuffix(err.Error(), want) {
						t.Errorf("%v, want %q", err, want)
					}
					w.untouched(t)
					// A run for all does not say it twice.
					if changed, err := w.machine().Changed(t.Context()); err != nil || slices.Contains(changed, "shop") {
						t.Errorf("a run for all would go on with %v, %v", changed, err)
					}
				})
			})
		}
	}
}

// TestOwnPort: an app that has been ready on a port keeps it, whoever else has it too. A
// port that is new to it is refused like that of a new app.
func TestOwnPort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		w.neighbour(nil, "PORT=3000")
		w.env("NEW=1")
		deployed(t, w)
		for name := range w.units {
			w.units[name].Active = "inactive"
		}
		if err := os.Remove(w.layout.Env("blog")); err != nil {
			t.Fatal(err)
		}
		w.neighbour(nil, "PORT=4000")
		w.env("PORT=4000", "BEHAVE=elsewhere")
		if err := w.machine().Swap(t.Context(), "shop"); err == nil || !strings.Contains(err.Error(), "port 4000 belongs to blog; give shop another PORT") {
			t.Errorf("Swap = %v", err)
		}
	})
}

// TestPortOfAnotherFirst: an app that serves, and whose new PORT is another app's, is not
// told to be stopped: it could not be started afterwards.
func TestPortOfAnotherFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		w.neighbour(nil, "PORT=4000")
		w.env("PORT=4000", "BEHAVE=elsewhere")
		err := w.machine().Swap(t.Context(), "shop")
		const want = "port 4000 belongs to blog; give shop another PORT, then: app-rollout run shop"
		if err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("Swap = %v, want %q", err, want)
		}
		// Of a port that is nobody's it is told.
		w.env("PORT=4001", "BEHAVE=elsewhere")
		if err := w.machine().Swap(t.Context(), "shop"); err == nil || !strings.Contains(err.Error(), "is to listen on port 4001, but listens on 3000") {
			t.Errorf("Swap = %v", err)
		}
	})
}

// TestBindsAnothers: a new instance that listens on another app's port, whatever its PORT
// says, fails as soon as that is seen, unless their addresses do not overlap.
func TestBindsAnothers(t *testing.T) {
	for _, c := range []struct {
		name, behave string
		runs, taken  bool
		ports        []int
		blog, shop   string
	}{
		{name: "its PORT, and it does not run", blog: "PORT=4000", shop: "PORT=3000", taken: true},
		{name: "one of its ports, and it does not run", ports: []int{4000}, shop: "PORT=3000", taken: true},
		{name: "it listens there", blog: "PORT=4000", shop: "PORT=3000", behave: "elsewhere", runs: true, taken: true},
		{name: "it listens at another address", blog: "PORT=4000", shop: "X=", behave: "six", runs: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.neighbour(c.ports, c.blog)
				w.portless("BEHAVE=elsewhere", c.shop)
				if c.runs {
					w.neighbourRuns("blog@1.service", c.behave)
				}
				began := time.Now()
				err := w.machine().Swap(t.Context(), "shop")
				delete(w.units, "blog@1.service")
				if !c.taken {
					if err != nil {
						t.Error(err)
					}
					return
				}
				const want = "listens on 0.0.0.0:4000, but port 4000 belongs to blog; nothing serves; let it listen on another one, then: app-rollout run shop"
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v, want %q", err, want)
				}
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("it took %v", took)
				}
				if got := w.running(); got != "" {
					t.Errorf("%s run", got)
				}
				// It listens on another one.
				w.portless("A=2", c.shop)
				if err := w.machine().Swap(t.Context(), "shop"); err != nil {
					t.Errorf("Swap = %v", err)
				}
			})
		})
	}
}

// TestNewcomers: of two new apps that ask for one port in a run for all, the one whose
// name comes first gets it, even if the other one is quicker. One that has failed before
// comes last. To name the other one is to choose it.
func TestNewcomers(t *testing.T) {
	for kind, do := range kinds {
		for _, failed := range []string{"", "blog", "shop", "blog shop"} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.newcomer("PORT=3000")
				w.env()
				for _, app := range strings.Fields(failed) {
					if err := store.Of(w.layout, app).Reject(w.freeze(app)); err != nil {
						t.Fatal(err)
					}
				}
				err := do(w.machine(), t.Context(), "shop")
				if kind == "boot" && strings.Contains(failed, "shop") {
					return // it is not started at boot: see TestBootRejected
				}
				if kind == "named" || failed == "blog" {
					if err != nil || current(t, w) == 0 {
						t.Errorf("%s, failed before: %q: %v, %s run", kind, failed, err, w.running())
					}
					return
				}
				why := "comes first by its name"
				if failed == "shop" {
					why = "has not failed before"
				}
				want := "shop.env: port 3000 goes to blog, which is new too and " + why + "; give shop another PORT, then: app-rollout run shop"
				if err == nil || !strings.HasSuffix(err.Error(), want) {
					t.Errorf("%s, failed before: %q: %v, want %q", kind, failed, err, want)
				}
				if got := w.running(); got != "" {
					t.Errorf("%s run", got)
				}
			})
		}
	}
}

// TestNewcomerFails: who comes first does not depend on how soon that one fails.
func TestNewcomerFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.newcomer("PORT=3000")
		w.env()
		m := w.machine()
		if err := m.yields("blog"); err != nil { // the run has begun
			t.Fatal(err)
		}
		if err := store.Of(w.layout, "blog").Reject(w.freeze("blog")); err != nil {
			t.Fatal(err)
		}
		if err := m.Deploy(t.Context(), "shop"); err == nil || !strings.Contains(err.Error(), "port 3000 goes to blog") {
			t.Errorf("%v", err)
		}
		w.untouched(t)
		if changed, err := m.Changed(t.Context()); err != nil || len(changed) > 0 {
			t.Errorf("the same run goes on with %v, %v", changed, err)
		}
	})
}

// TestClaim: two runs at the same time do not start two new apps on one port.
func TestClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.env()
		release, taker := w.machine().claim("blog", 3000)
		if taker != "" {
			t.Fatal(taker)
		}
		if err := w.machine().Swap(t.Context(), "shop"); err == nil || !strings.Contains(err.Error(), "port 3000 is being taken by blog; give shop another PORT") {
			t.Errorf("Swap = %v", err)
		}
		w.untouched(t)
		release()
		deployed(t, w)
		if _, taker := w.machine().claim("blog", 3000); taker != "" {
			t.Errorf("after the rollout the port is claimed by %q", taker)
		}
	})
}

// TestClaimByNobody: an app whose port belongs to a second one is refused in its name, also
// while a third one, which will be refused too, has the claim.
func TestClaimByNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.neighbour(nil, "PORT=3000")
		w.env()
		release, taker := w.machine().claim("third", 3000)
		if taker != "" {
			t.Fatal(taker)
		}
		defer release()
		if err := w.machine().Swap(t.Context(), "shop"); err == nil || !strings.Contains(err.Error(), "port 3000 belongs to blog; give shop another PORT") {
			t.Errorf("Swap = %v", err)
		}
		w.untouched(t)
	})
}

// TestClaimByRollback: a rollback to another PORT claims it, as a rollout does.
func TestClaimByRollback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t, "PORT=3000")
		for name := range w.units {
			if _, err := w.Stop(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
		w.deploys(t, "PORT=4000", "BEHAVE=elsewhere")
		for name := range w.units {
			if _, err := w.Stop(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
		release, taker := w.machine().claim("blog", 3000)
		if taker != "" {
			t.Fatal(taker)
		}
		defer release()
		if err := w.machine().Rollback(t.Context(), "shop"); err == nil || !strings.Contains(err.Error(), "port 3000 is being taken by blog") {
			t.Errorf("Rollback = %v", err)
		}
	})
}

// TestPortsRecorded: what an app listens on is recorded when it becomes ready, whatever
// has changed since the generation before.
func TestPortsRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.portless()
		recorded := func(what string) {
			t.Helper()
			g, err := store.Of(w.layout, "shop").Current()
			if err != nil || !slices.Equal(g.Ports, []int{3000}) {
				t.Errorf("%s: %v, %v", what, g.Ports, err)
			}
		}
		for _, lines := range [][]string{nil, {"NEW=1"}, {"NEW=1", "SYSTEMD_CLUSTER_NODES=3"}, {"NEW=1", "SYSTEMD_CLUSTER_NODES=1"}} {
			w.portless(lines...)
			deployed(t, w)
			recorded(strings.Join(lines, " "))
		}
		if err := w.machine().Rollback(t.Context(), "shop"); err != nil {
			t.Fatal(err)
		}
		recorded("rolled back")
	})
}

// TestKeptPorts: what the kernel has chosen is not recorded, nor any number of ports.
func TestKeptPorts(t *testing.T) {
	var many []int
	for port := 2000; port < 3000; port++ {
		many = append(many, port)
	}
	for _, c := range []struct{ ports, want []int }{
		{[]int{3000, 9100}, []int{3000, 9100}},
		{[]int{3000, 32768, 40000, 60999, 61000}, []int{3000, 40000, 61000}},
		{many, many[:mostPorts]},
	} {
		if got := kept(slices.Clone(c.ports), 40000, 32768, 60999); !slices.Equal(got, c.want) {
			t.Errorf("%v, want %v", got, c.want)
		}
	}
}

// TestOwnersOnce: a command that looks at all apps in one moment reads once whose the ports
// are; a run asks anew each time.
func TestOwnersOnce(t *testing.T) {
	for _, once := range []bool{true, false} {
		w := newWorld(t)
		w.neighbour([]int{4000}, "PORT=3000")
		m := w.machine()
		if once {
			layout, release := w.layout.Cached()
			defer release()
			m.Layout = layout
		}
		for _, port := range []int{3000, 4000} {
			if got := m.holder("shop", port); got != "blog" {
				t.Errorf("port %d is %q's", port, got)
			}
			if got := m.holder("blog", port); got != "" {
				t.Errorf("port %d, which is its own, is %q's", port, got)
			}
		}
		if err := os.RemoveAll(store.Of(w.layout, "blog").Dir(1)); err != nil {
			t.Fatal(err)
		}
		if got := m.holder("shop", 3000); (got == "blog") != once {
			t.Errorf("in one moment: %v: now it is %q's", once, got)
		}
	}
}
