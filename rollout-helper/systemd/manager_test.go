package systemd

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func try(t *testing.T, f func(t *testing.T, p *pid1, m *Manager)) {
	synctest.Test(t, func(t *testing.T) {
		p := &pid1{t: t, run: []byte{0xab, 0xcd}}
		m := &Manager{dial: p.dial}
		f(t, p, m)
		m.Close()
		p.gone(true)
	})
}

func TestUnits(t *testing.T) {
	try(t, func(t *testing.T, p *pid1, m *Manager) {
		us, err := m.Units(t.Context(), "shop@*.service")
		if err != nil || len(us) != 1 {
			t.Fatalf("%v, %v", us, err)
		}
		if u := us[0]; u.Name != "shop@3.service" || u.Active != "activating" || u.Invocation != "abcd" || u.Memory != 0 || !u.Live() || u.Up() {
			t.Errorf("the unit is %+v", u)
		}
		if stopping, err := m.Stopping(t.Context()); err != nil || !stopping {
			t.Errorf("Stopping = %v, %v", stopping, err)
		}
		if err := m.ResetFailed(t.Context(), "shop@3.service"); err != nil {
			t.Errorf("a unit that is not loaded: %v", err)
		}
	})
}

// TestRefresh: a unit that goes on in its state and its run is not read again; one
// in another state or run is. Its run is read from PID 1's link, if that named
// the right one before, or else asked for.
func TestRefresh(t *testing.T) {
	for _, c := range []struct{ name, link, asks string }{
		{"linked", "abcd", ""},
		{"no link", "", "Get InvocationID"},
		{"a link of something else", "1234", "Get InvocationID"},
	} {
		t.Run(c.name, func(t *testing.T) {
			try(t, func(t *testing.T, p *pid1, m *Manager) {
				m.runs = t.TempDir()
				path := filepath.Join(m.runs, "invocation:shop@3.service")
				link := func(run string) {
					if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
						t.Fatal(err)
					}
					if run == "" {
						return
					}
					if err := os.Symlink(run, path); err != nil {
						t.Fatal(err)
					}
				}
				look := func(why string, want ...string) Unit {
					t.Helper()
					p.set(func() { p.asked = nil })
					us, err := m.Refresh(t.Context(), "shop@*.service")
					if err != nil || len(us) != 1 {
						t.Fatalf("%v, %v", us, err)
					}
					want = slices.DeleteFunc(append([]string{"ListUnitsByPatterns"}, want...), func(s string) bool { return s == "" })
					p.set(func() {
						if !slices.Equal(p.asked, want) {
							t.Errorf("%s: asked for %v, want %v", why, p.asked, want)
						}
					})
					return us[0]
				}
				link(c.link)
				look("at first", "GetAll")
				look("as it was", c.asks)
				p.set(func() { p.run = []byte{0xef} })
				if c.link != "" {
					link("ef")
				}
				if u := look("restarted", c.asks, "GetAll"); u.Invocation != "ef" {
					t.Errorf("the unit is %+v", u)
				}
				p.set(func() { p.job = 7 })
				if u := look("with a job", "GetAll"); u.Job != 7 {
					t.Errorf("the unit is %+v", u)
				}
				if err := m.Reload(t.Context()); err != nil {
					t.Fatal(err)
				}
				look("after a reload", "GetAll")
				link("")
				look("its link is gone", "Get InvocationID")
			})
		})
	}
}

// TestList: a list reads nothing of each unit.
func TestList(t *testing.T) {
	try(t, func(t *testing.T, p *pid1, m *Manager) {
		us, err := m.List(t.Context(), "shop@*.service")
		if want := (Unit{Name: "shop@3.service", Load: "loaded", Active: "activating", Sub: "start"}); err != nil || len(us) != 1 || !reflect.DeepEqual(us[0], want) {
			t.Errorf("%+v, %v", us, err)
		}
		p.set(func() {
			if !slices.Equal(p.asked, []string{"ListUnitsByPatterns"}) {
				t.Errorf("asked for %v", p.asked)
			}
		})
	})
}

func TestJob(t *testing.T) {
	for _, result := range []string{"done", "failed", "canceled"} {
		try(t, func(t *testing.T, p *pid1, m *Manager) {
			time.AfterFunc(20*time.Second, func() { p.removed(result) })
			if got, err := m.Start(t.Context(), "shop@3.service"); err != nil || got != result {
				t.Errorf("Start = %q, %v", got, err)
			}
		})
	}
}

func TestJobIsGivenUp(t *testing.T) {
	try(t, func(t *testing.T, p *pid1, m *Manager) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if got, err := m.Start(ctx, "shop@3.service"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Start = %q, %v", got, err)
		}
	})
}

// TestReexec: when PID 1 executes itself anew in the middle of a job, the job's
// end is never signalled; it is over when the unit has none any more.
func TestReexec(t *testing.T) {
	try(t, func(t *testing.T, p *pid1, m *Manager) {
		began := time.Now()
		time.AfterFunc(5*time.Second, func() { p.gone(true) })
		time.AfterFunc(6*time.Second, func() { p.gone(false) })
		time.AfterFunc(10*time.Second, func() { p.removed("done") })
		got, err := m.Start(t.Context(), "shop@3.service")
		if err != nil || got != Lost {
			t.Errorf("Start = %q, %v", got, err)
		}
		if took := time.Since(began); took < 10*time.Second || took > 11*time.Second {
			t.Errorf("the job was over after %v", took)
		}
		if n := count(p, "StartUnit"); n != 1 {
			t.Errorf("the job was queued %d times", n)
		}
	})
}

func count(p *pid1, method string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.asked {
		if m == method {
			n++
		}
	}
	return n
}

// TestReexecUnderQuestion: a question that was not answered is asked again.
func TestReexecUnderQuestion(t *testing.T) {
	try(t, func(t *testing.T, p *pid1, m *Manager) {
		p.hear = func(method string) {
			p.set(func() { p.hear = nil })
			p.gone(true)
			time.AfterFunc(3*time.Second, func() { p.gone(false) })
		}
		if us, err := m.Units(t.Context(), "shop@*.service"); err != nil || len(us) != 1 {
			t.Errorf("Units = %v, %v", us, err)
		}
	})
}

func TestNoAnswer(t *testing.T) {
	try(t, func(t *testing.T, p *pid1, m *Manager) {
		if _, err := m.Units(t.Context(), "shop@*.service"); err != nil {
			t.Fatal(err)
		}
		p.gone(true)
		began := time.Now()
		if _, err := m.Units(t.Context(), "shop@*.service"); err == nil || time.Since(began) < 10*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		if _, err := m.Units(ctx, "shop@*.service"); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 2*time.Second {
			t.Errorf("given up after %v: %v", time.Since(began), err)
		}
	})
}

// TestReloads: those who ask while one is under way share the next one.
func TestReloads(t *testing.T) {
	var r reloads
	var asked, began atomic.Int32
	release := make(chan struct{})
	done := make(chan error)
	ask := func() {
		asked.Add(1)
		done <- r.do(func() error {
			began.Add(1)
			<-release
			return nil
		})
	}
	until := func(what string, cond func() bool) {
		t.Helper()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for end := time.Now().Add(10 * time.Second); !cond(); <-tick.C {
			if time.Now().After(end) {
				t.Fatalf("%s: not within 10 s", what)
			}
		}
	}
	go ask()
	until("the first reload", func() bool { return began.Load() == 1 })
	go ask()
	go ask()
	// Asked is not yet waiting, but whoever comes too late for the second one
	// would need a third, and fail the test: give them the time.
	until("two more", func() bool { return asked.Load() == 3 })
	late := time.After(50 * time.Millisecond)
	<-late
	close(release)
	for range 3 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if began.Load() != 2 {
		t.Errorf("%d reloads for three who asked, two of them at the same time", began.Load())
	}
}
