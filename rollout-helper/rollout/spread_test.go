package rollout

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/units/store"
)

// TestUntilClosed: a drain that is to last until all is closed waits for connections at
// rest and for streams, and for nothing else. What the new .env asks for counts, and in a
// rollback what the one asked for that goes.
func TestUntilClosed(t *testing.T) {
	const closed, waits = "SYSTEMD_CLUSTER_DRAIN_UNTIL=closed", "waiting for 6 connection(s) of shop@1 shop@2 to be closed, for 30 s at most"
	for _, c := range []struct {
		name, before, asks string
		has                sockets.Work
		says               string // "" if nothing is waited for
	}{
		{"at rest", closed, closed, sockets.Work{Idle: 2, Streams: 1}, waits},
		{"from now on", "", closed, sockets.Work{Idle: 2, Streams: 1}, waits},
		{"no more", closed, "", sockets.Work{Idle: 2, Streams: 1}, ""},
		{"nothing is there", closed, closed, sockets.Work{}, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := up(t, watchSec, c.before)
			w.has, w.events = c.has, nil
			w.env(watchSec, c.asks, "NEW=1")
			began := time.Now()
			deployed(t, w)
			said, took := w.said(), time.Since(began)
			if waited := took > 30*time.Second; waited != (c.says != "") || !strings.Contains(said, c.says) {
				t.Errorf("%s: in %v, said\n%s", c.name, took, said)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		w := up(t, watchSec)
		w.env(watchSec, closed)
		deployed(t, w)
		w.has, w.events = sockets.Work{Idle: 3}, nil
		if err := w.machine().Rollback(t.Context(), "shop"); err != nil || !strings.Contains(w.said(), "waiting for 6 connection(s) of shop@3 shop@4 to be closed") {
			t.Errorf("a rollback: %v, said\n%s", err, w.said())
		}
	})
}

// leavers are what a rollout has that drains so many instances, each of which has these
// connections, and when it told each to stop, since the drain began.
func leavers(t *testing.T, n, drainSec int, has sockets.Work, lines ...string) (w *world, at []time.Duration) {
	t.Helper()
	lines = append(lines, watchSec, fmt.Sprint("SYSTEMD_CLUSTER_NODES=", n), fmt.Sprint("SYSTEMD_CLUSTER_DRAIN_SEC=", drainSec), "SYSTEMD_TIMEOUT_STOP_SEC=7s")
	w = up(t, lines...)
	w.has, w.stops, w.events = has, map[string]stopped{}, nil
	if n == 256 {
		w.stopTakes = 200 * time.Millisecond // so many are to begin in time though each is slow
	}
	var began time.Time
	w.onCall = func(_ int, call string) error {
		if began.IsZero() && strings.HasPrefix(call, "tell ") {
			began = time.Now()
		}
		return nil
	}
	w.env(append(lines, "NEW=1")...)
	deployed(t, w)
	if len(w.stops) != n {
		t.Fatalf("%d were stopped, not %d", len(w.stops), n)
	}
	for i := range n {
		s := w.stops[fmt.Sprintf("shop@%d.service", i+1)]
		at = append(at, s.at.Sub(began))
		if want := 7*time.Second + stopGrace; s.limit != want {
			t.Errorf("the instance %d gets %v to stop, not %v", i+1, s.limit, want)
		}
	}
	return w, at
}

// TestSpread: instances whose clients stay are told to stop one after the other, in the
// last tenth of the drain time, and not before; each gets its whole time to stop from then
// on. Who owes an answer keeps all of the drain time.
func TestSpread(t *testing.T) {
	const closed = "SYSTEMD_CLUSTER_DRAIN_UNTIL=closed"
	synctest.Test(t, func(t *testing.T) {
		w, at := leavers(t, 4, 40, sockets.Work{Idle: 2, Streams: 1}, closed)
		for i, when := range at {
			if due := time.Duration(37+i) * time.Second; when < due || when > due+100*time.Millisecond {
				t.Errorf("the instance %d was told to stop after %v, not %v", i+1, when, due)
			}
		}
		g, err := store.Of(w.layout, "shop").Current()
		if want := (store.Counts{Closed: 8, Cut: 4, Streams: 4}); err != nil || *g.Rollout.Counts != want {
			t.Errorf("counted %+v, want %+v: %v", *g.Rollout.Counts, want, err)
		}
		for _, line := range []string{
			"stopping shop@1 shop@2 shop@3 shop@4 one after the other, because their clients stay",
			"3 connection(s) of shop@4 are still open after 40 s",
			"stopping shop@4, which closes 2 connection(s) at rest",
		} {
			if !strings.Contains(w.said(), line) {
				t.Errorf("%q is not said:\n%s", line, w.said())
			}
		}
	})
	for name, c := range map[string]struct {
		n, sec int
		has    sockets.Work
		lines  []string
		from   time.Duration // when the first is told to stop
		within time.Duration // and the last, after that
	}{
		"answers are owed":      {4, 20, sockets.Work{Owed: 1, Idle: 1}, []string{closed}, 20 * time.Second, 100 * time.Millisecond},
		"nothing is waited for": {4, 20, sockets.Work{Idle: 1}, nil, 0, 100 * time.Millisecond},
		"half open":             {4, 20, sockets.Work{HalfOpen: 1, Idle: 1}, []string{closed}, 20 * time.Second, 100 * time.Millisecond},
		"one instance":          {1, 20, sockets.Work{Idle: 1}, []string{closed}, 20 * time.Second, 0},
		"no time":               {4, 0, sockets.Work{Idle: 1}, []string{closed}, 0, 100 * time.Millisecond},
		"one second":            {4, 1, sockets.Work{Idle: 1}, []string{closed}, 925 * time.Millisecond, 150 * time.Millisecond},
		"256":                   {256, 30, sockets.Work{Idle: 1}, []string{closed}, 27 * time.Second, 4 * time.Second},
		"256, one second":       {256, 1, sockets.Work{Idle: 1}, []string{closed}, 900 * time.Millisecond, 200 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			_, at := leavers(t, c.n, c.sec, c.has, c.lines...)
			first, last := at[0], at[len(at)-1]
			if first < c.from || first > c.from+50*time.Millisecond || last < first || last-first > c.within {
				t.Errorf("%s: told to stop from %v to %v", name, first, last)
			}
		})
	}
}

// TestSpreadEverywhere: whatever is drained, its stops are spread: the instances that scaling
// down, the way back, a rollback, a restart and a recovery stop.
func TestSpreadEverywhere(t *testing.T) {
	lines := func(more ...string) []string {
		return append(more, "SYSTEMD_CLUSTER_WATCH_SEC=3", "SYSTEMD_CLUSTER_DRAIN_SEC=20", "SYSTEMD_CLUSTER_DRAIN_UNTIL=closed")
	}
	for name, c := range map[string]struct {
		nodes string
		act   func(w *world) error
		stops string
	}{
		"scaling down": {"SYSTEMD_CLUSTER_NODES=3", func(w *world) error {
			w.env(lines("SYSTEMD_CLUSTER_NODES=1")...)
			return w.machine().Swap(w.t.Context(), "shop")
		}, "shop@2 shop@3"},
		"the way back": {"", func(w *world) error {
			w.env(lines("BEHAVE=closes")...)
			if err := w.machine().Swap(w.t.Context(), "shop"); err == nil {
				return errors.New("it went well")
			}
			return nil
		}, "shop@3 shop@4"},
		"a rollback": {"", func(w *world) error {
			has := w.has
			w.has = sockets.Work{}
			w.env(lines("NEW=1")...)
			deployed(w.t, w)
			w.has, w.stops = has, map[string]stopped{}
			return w.machine().Rollback(w.t.Context(), "shop")
		}, "shop@3 shop@4"},
		"a restart": {"", func(w *world) error { return w.machine().Restart(w.t.Context(), "shop") }, "shop@1 shop@2"},
		"a recovery": {"", func(w *world) error {
			w.env(lines("NEW=1")...)
			ctx, kill := context.WithCancel(w.t.Context())
			defer kill()
			var left *world
			w.onCall = func(_ int, call string) error {
				if left == nil && strings.HasPrefix(call, "tell ") {
					left = w.copy(w.t)
					kill()
				}
				return nil
			}
			_ = w.machine().Swap(ctx, "shop")
			left.has, left.stops = w.has, w.stops
			clear(w.stops)
			return left.machine().Recover(w.t.Context(), "shop")
		}, "shop@1 shop@2"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := up(t, lines(c.nodes)...)
			w.has, w.stops = sockets.Work{Idle: 1}, map[string]stopped{}
			if err := c.act(w); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			names := strings.Fields(c.stops)
			first, last := w.stops[names[0]+".service"].at, w.stops[names[1]+".service"].at
			if apart := last.Sub(first); len(w.stops) != 2 || apart < 900*time.Millisecond || apart > 1100*time.Millisecond {
				t.Errorf("%s: told to stop %v apart: %v", name, apart, w.stops)
			}
		})
	}
}
