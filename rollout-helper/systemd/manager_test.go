package systemd

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func try(t *testing.T, f func(t *testing.T, p *pid1, m *Manager)) {
	synctest.Test(t, func(t *testing.T) {
		p := &pid1{t: t}
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
	synctest.Test(t, func(t *testing.T) {
		var r reloads
		var began []time.Duration
		start := time.Now()
		reload := func() error {
			began = append(began, time.Since(start))
			time.Sleep(time.Second)
			return nil
		}
		done := make(chan error)
		for _, after := range []time.Duration{0, 100, 200, 1500} {
			time.AfterFunc(after*time.Millisecond, func() { done <- r.do(reload) })
		}
		for range 4 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if want := []time.Duration{0, time.Second, 2 * time.Second}; !slices.Equal(began, want) {
			t.Errorf("reloads began after %v, want %v", began, want)
		}
	})
}
