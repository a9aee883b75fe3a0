package rollout

import (
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/units/store"
)

// TestCounted: the receipt counts what the stop of the old instances does to their
// connections, however traffic is directed.
func TestCounted(t *testing.T) {
	for name, c := range map[string]struct {
		mode, unsteer string
		has           sockets.Work
		want          store.Counts
		says          string
	}{
		"at rest":       {"1", "", sockets.Work{Idle: 2}, store.Counts{Closed: 4}, "stopping shop@1 shop@2, which closes 4 connection(s) at rest"},
		"asks again":    {"1", "", sockets.Work{Idle: 1, Recent: 1}, store.Counts{Closed: 2}, "clients still ask again on 2 connection(s) of shop@1 shop@2 after 30 s"},
		"streams":       {"1", "", sockets.Work{Idle: 1, Streams: 1}, store.Counts{Closed: 2, Cut: 2, Streams: 2}, "2 closed at rest, 2 cut (streams: 2)"},
		"owed":          {"1", "", sockets.Work{Owed: 1}, store.Counts{Cut: 2}, "2 connection(s) of shop@1 shop@2 still wait for an answer after 30 s"},
		"not steered":   {"1", "no BPF", sockets.Work{Owed: 1, Idle: 1}, store.Counts{Closed: 2, Cut: 2}, "traffic migrated (no BPF), 0 connections drained, 2 closed at rest, 2 cut"},
		"one in place":  {"0", "", sockets.Work{Owed: 1, Idle: 1}, store.Counts{Closed: 1, Cut: 1}, "traffic plain (one service is restarted in place), 0 connections drained, 1 closed at rest, 1 cut"},
		"nothing to do": {"1", "", sockets.Work{}, store.Counts{}, "traffic steered, 0 connections drained, 0 cut"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := up(t, "SYSTEMD_CLUSTER_MODE="+c.mode)
			w.unsteer, w.has, w.events = c.unsteer, c.has, nil
			deployed(t, w)
			g, err := store.Of(w.layout, "shop").Current()
			if err != nil || g.Rollout.Counts == nil || *g.Rollout.Counts != c.want {
				t.Errorf("%s: the receipt has %+v, want %+v: %v", name, g.Rollout.Counts, c.want, err)
			}
			if !strings.Contains(w.said(), c.says) {
				t.Errorf("%s: %q is not said:\n%s", name, c.says, w.said())
			}
		})
	}
}

// TestSettled: a server that finishes what it has in hand after its stop signal cuts
// nothing.
func TestSettled(t *testing.T) {
	for _, mode := range []string{"0", "1"} {
		synctest.Test(t, func(t *testing.T) {
			w := up(t, "SYSTEMD_CLUSTER_MODE="+mode)
			w.has, w.settles = sockets.Work{Owed: 1, Idle: 1}, &sockets.Work{Idle: 1, Ended: 5}
			deployed(t, w)
			g, err := store.Of(w.layout, "shop").Current()
			if want := (store.Counts{Drained: 5, Closed: 1}); err != nil || *g.Rollout.Counts != want {
				t.Errorf("mode %s: the receipt has %+v, want %+v: %v", mode, *g.Rollout.Counts, want, err)
			}
		})
	}
}

// TestNoTraffic: an app without a TCP listener gets no word of traffic and connections.
func TestNoTraffic(t *testing.T) {
	word := regexp.MustCompile(`(?i)steer|traffic|connection|client|drain|serve`)
	for _, mode := range []string{"0", "1"} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			for range 2 {
				w.untell = "no BPF here"
				w.portless("SYSTEMD_CLUSTER_MODE="+mode, "BEHAVE=deaf")
				deployed(t, w)
			}
			g, err := store.Of(w.layout, "shop").Current()
			if err != nil || g.Rollout.Traffic != "" || g.Rollout.TrafficReason != "" || g.Rollout.Counts != nil {
				t.Errorf("mode %s: the receipt is %+v: %v", mode, g.Rollout, err)
			}
			w.portless("SYSTEMD_CLUSTER_MODE="+mode, "BEHAVE=exits")
			err = w.machine().Swap(t.Context(), "shop")
			if how := map[string]string{"0": "generation 2 runs again", "1": "generation 2 still runs"}[mode]; err == nil || !strings.Contains(err.Error(), how) {
				t.Errorf("mode %s: Swap = %v, want %q", mode, err, how)
			}
			for line := range strings.Lines(w.said()) {
				// The names of the steps, with their times, stand after the last colon.
				if at := strings.LastIndex(line, ": "); strings.Contains(line, " in ") {
					line = line[:at]
				}
				if word.MatchString(line) {
					t.Errorf("mode %s: said %s", mode, line)
				}
			}
		})
	}
}

// TestServesIsSeen: nobody says that something serves without having looked.
func TestServesIsSeen(t *testing.T) {
	for want, down := range map[string][]string{
		"; generation 1 still serves; ":                                                   nil,
		"; of generation 1 only shop@1 is well: shop@2 is down; ":                         {"shop@2.service"},
		"; generation 1 does not serve: shop@1 is down; ":                                 {"shop@1.service", "shop@2.service"},
		"; of generation 1 only shop@2 is well: shop@1 does not listen on 0.0.0.0:3000; ": {"deaf shop@1.service"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := up(t)
			w.env("BEHAVE=exits")
			w.onCall = func(_ int, call string) error {
				if call == "start shop@3.service" {
					for _, name := range down {
						if name, deaf := strings.CutPrefix(name, "deaf "); deaf {
							w.units[name].behave = "deaf"
						} else {
							w.units[name].Active = "failed"
						}
					}
				}
				return nil
			}
			if err := w.machine().Swap(t.Context(), "shop"); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Swap = %v, want %q", err, want)
			}
		})
	}
}

// TestSamePath: a unit that takes the Unix socket of another one is seen, before the
// rollout is committed; and nobody says that the other one serves.
func TestSamePath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		fails := func(want ...string) {
			t.Helper()
			err := w.machine().Swap(t.Context(), "shop")
			for _, part := range want {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("Swap = %v, want %q", err, part)
				}
			}
		}
		w.portless("BEHAVE=unix")
		fails("shop@1 shop@2 listen on the same Unix socket, /run/shop.sock: only the last of them can be reached there; nothing serves; ", "; app-rollout run shop")
		if got := w.running(); got != "" {
			t.Errorf("%s run", got)
		}
		w.portless("BEHAVE=unix", "SYSTEMD_CLUSTER_NODES=1")
		deployed(t, w)
		before := w.running()
		fails("listen on the same Unix socket", "; generation 2 still runs, but nobody reaches it at /run/shop.sock any more: systemctl restart 'shop@*.service'; ",
			"stop the app (systemctl stop 'shop@*.service'), then: app-rollout run shop")
		if got := w.running(); got != before {
			t.Errorf("%s run, want %s", got, before)
		}
		w.clean(t)
	})
}
