package rollout

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/synctest"

	"app-rollout/units/step"
)

// event is the first event of the world whose line contains a text.
func (w *world) event(text string) *Event {
	for i, e := range w.events {
		if strings.Contains(e.Line(), text) {
			return &w.events[i]
		}
	}
	return nil
}

// deploys rolls out an .env with these lines.
func (w *world) deploys(t *testing.T, lines ...string) {
	t.Helper()
	w.env(lines...)
	if err := w.machine().Swap(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
}

// TestRollbackSays: a rollback says what comes back and what cannot, and why it passes
// over a generation.
func TestRollbackSays(t *testing.T) {
	const inPlace, released = "SYSTEMD_WORKING_DIRECTORY=/srv/shop", "SYSTEMD_WORKING_DIRECTORY=/srv/shop/current"
	release := func(t *testing.T, w *world, n int) {
		t.Helper()
		dir, link := fmt.Sprint("/srv/shop/releases/", n), w.layout.Path("/srv/shop/current")
		if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if err := errors.Join(os.MkdirAll(w.layout.Path(dir), 0o755), os.Symlink(strings.TrimPrefix(dir, "/srv/shop/"), link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name  string
		do    func(t *testing.T, w *world)
		says  []string
		level Level // of the last of them
		fails string
	}{
		{"code in place", func(t *testing.T, w *world) {
			w.deploys(t, inPlace, "V=1")
			w.deploys(t, inPlace, "V=2")
		}, []string{"rolling back from generation 2 to what generation 1 was", "what comes back: V; the code does not come back: it is what lies in /srv/shop now"}, Warning, ""},
		{"releases", func(t *testing.T, w *world) {
			for n := 1; n <= 2; n++ {
				release(t, w, n)
				w.deploys(t, released)
			}
		}, []string{"the code is what lies in /srv/shop/releases/1"}, Info, ""},
		{"one release", func(t *testing.T, w *world) {
			release(t, w, 1)
			w.deploys(t, released, "V=1")
			w.deploys(t, released, "V=2")
		}, []string{"what comes back: V; the code stays what lies in /srv/shop/releases/1"}, Info, ""},
		{"a release that is gone", func(t *testing.T, w *world) {
			for n := 1; n <= 3; n++ {
				release(t, w, n)
				w.deploys(t, released)
			}
			if err := os.RemoveAll(w.layout.Path("/srv/shop/releases/2")); err != nil {
				t.Fatal(err)
			}
		}, []string{"from generation 3 to what generation 1 was", "passed over: generation 2 ran in a directory that is gone"}, Info, ""},
		{"no working directory", func(t *testing.T, w *world) {
			w.deploys(t, "V=1")
			w.deploys(t, "V=2")
		}, []string{"what comes back: V; the code stays as it is now"}, Info, ""},
		{"the same, and one that failed", func(t *testing.T, w *world) {
			w.deploys(t, "V=1")
			w.deploys(t, "V=2")
			w.env("BEHAVE=exits")
			if err := w.machine().Swap(t.Context(), "shop"); err == nil {
				t.Fatal("it succeeds")
			}
			w.deploys(t, "V=2")
		}, []string{"from generation 4 to what generation 1 was", "passed over: generation 2 does not differ from generation 4; generation 3 was never ready"}, Info, ""},
		{"all the same", func(t *testing.T, w *world) {
			for range 3 {
				w.deploys(t, inPlace, "V=1")
			}
		}, nil, Info, "shop has nothing to roll back to: generations 1 2 do not differ from generation 3; put the code that is to serve into /srv/shop, then: app-rollout run shop"},
		{"the first one", func(t *testing.T, w *world) { w.deploys(t, "V=1") },
			nil, Info, "shop has nothing to roll back to: no generation is kept that was ready before this one; let its .env ask for what is to serve, then: app-rollout run shop"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				c.do(t, w)
				w.events = nil
				err := w.machine().Rollback(t.Context(), "shop")
				if c.fails == "" && err != nil || c.fails != "" && (err == nil || err.Error() != c.fails) {
					t.Fatalf("Rollback = %v, want %q", err, c.fails)
				}
				for i, text := range c.says {
					e := w.event(text)
					if e == nil || e.Step != step.Rollback {
						t.Fatalf("it does not say %q: %+v", text, w.events)
					}
					if i == len(c.says)-1 && e.Level != c.level {
						t.Errorf("%q is of level %d", text, e.Level)
					}
				}
			})
		})
	}
}
