package rollout

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"app-rollout/rollout-helper/sockets"
)

// TestTells: the clients of the instances that go are told to close, and of no other.
// Where that is not wanted it is not done, and where it cannot be done a line says so, once.
func TestTells(t *testing.T) {
	const cannot = "kept-alive clients are not told to close: no BPF here"
	for _, c := range []struct {
		name, before, asks, untell string
		tells                      string // whose clients; "" for nobody's
		says                       string
	}{
		{name: "a rollout", tells: "tell shop@1 shop@2", says: "0 connections drained, 3 told to close, 1 answers could not tell, 0 cut"},
		{name: "fewer instances", before: "SYSTEMD_CLUSTER_NODES=3", asks: "SYSTEMD_CLUSTER_NODES=2", tells: "tell shop@3"},
		{name: "a change of mode", asks: "SYSTEMD_CLUSTER_MODE=0", tells: "tell shop@1 shop@2"},
		{name: "the way back", asks: "BEHAVE=dies", tells: "tell shop@3 shop@4"},
		{name: "not wanted any more", asks: "SYSTEMD_CLUSTER_DRAIN_KEEPALIVE=leave"},
		{name: "not wanted before", before: "SYSTEMD_CLUSTER_DRAIN_KEEPALIVE=leave"},
		{name: "impossible", untell: "no BPF here", tells: "tell shop@1 shop@2", says: cannot},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := up(t, watchSec, c.before)
			w.untell, w.told, w.events, w.calls = c.untell, [2]int{3, 1}, nil, nil
			w.env(watchSec, c.asks)
			_ = w.machine().Swap(t.Context(), "shop") // one of them fails
			told := slices.DeleteFunc(slices.Clone(w.calls), func(call string) bool { return !strings.HasPrefix(call, "tell") })
			if got := strings.Join(slices.Compact(told), ", "); got != c.tells {
				t.Errorf("%s: %q, want %q", c.name, got, c.tells)
			}
			if said := w.said(); !strings.Contains(said, c.says) || strings.Count(said, cannot) > 1 {
				t.Errorf("%s: %q is not said once:\n%s", c.name, c.says, said)
			}
			if c.untell != "" && len(told) != 1 {
				t.Errorf("%s: tried %d times", c.name, len(told))
			}
		})
	}
}

// TestPrepares: what telling needs is begun before the drain, if there will be one.
func TestPrepares(t *testing.T) {
	for asks, want := range map[string]int{
		"NEW=1":                                 1,
		"SYSTEMD_CLUSTER_NODES=1":               1,
		"SYSTEMD_CLUSTER_NODES=3":               0,
		"SYSTEMD_CLUSTER_DRAIN_KEEPALIVE=leave": 0,
	} {
		synctest.Test(t, func(t *testing.T) {
			w := up(t, watchSec)
			w.prepared = 0
			w.env(watchSec, asks)
			deployed(t, w)
			if w.prepared != want {
				t.Errorf("%s: begun %d times, want %d", asks, w.prepared, want)
			}
		})
	}
}

// TestTellsLate: clients are told as soon as the kernel has taken the programs, though that
// takes longer than usual, and until then they are waited for. A line says so once.
func TestTellsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t, watchSec, "SYSTEMD_CLUSTER_DRAIN_SEC=20")
		w.has, w.calls, w.events = sockets.Work{Idle: 1, Recent: 1}, nil, nil
		w.untaken = time.Now().Add(8 * time.Second)
		w.onCall = func(_ int, call string) error {
			if strings.HasPrefix(call, "tell ") && !time.Now().Before(w.untaken) {
				w.has = sockets.Work{} // who was told has gone
			}
			return nil
		}
		w.env(watchSec, "SYSTEMD_CLUSTER_DRAIN_SEC=20", "NEW=1")
		began := time.Now()
		deployed(t, w)
		if took := time.Since(began); took < 8*time.Second || took > 12*time.Second {
			t.Errorf("the rollout took %v", took)
		}
		const line = "kept-alive clients are not told to close yet: the kernel is still loading the BPF programs"
		if said := w.said(); strings.Count(said, line) != 1 || strings.Contains(said, "clients still ask again") {
			t.Errorf("%q is not said once, or the clients were given up:\n%s", line, said)
		}
	})
}

// TestTellsSome: where some clients cannot be told, all others are, and a line says so once.
func TestTellsSome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t, watchSec, "SYSTEMD_CLUSTER_DRAIN_SEC=2")
		w.partly, w.has, w.calls, w.events = "no room on eth1", sockets.Work{Idle: 1, Recent: 1}, nil, nil
		w.env(watchSec, "SYSTEMD_CLUSTER_DRAIN_SEC=2", "NEW=1")
		deployed(t, w)
		if told := strings.Count(strings.Join(w.calls, "\n"), "tell shop@1 shop@2"); told < 2 {
			t.Errorf("told %d times", told)
		}
		const line, asks = "some kept-alive clients are not told to close: no room on eth1", "clients still ask again on 2 connection(s) of shop@1 shop@2 after 2 s"
		if said := w.said(); strings.Count(said, line) != 1 || !strings.Contains(said, asks) {
			t.Errorf("%q is not said once, or %q is not said:\n%s", line, asks, said)
		}
	})
}

// TestRecoverAsRun: what a killed run has left is drained as the generations ask that had
// instances, and not as one that is only kept.
func TestRecoverAsRun(t *testing.T) {
	const closed, leave = "SYSTEMD_CLUSTER_DRAIN_UNTIL=closed", "SYSTEMD_CLUSTER_DRAIN_KEEPALIVE=leave"
	for _, kept := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := up(t, watchSec, closed, leave)
			if kept {
				w.env(watchSec)
				deployed(t, w)
			}
			w.env(watchSec, "NEW=1")
			var left *world
			w.onCall = func(_ int, call string) error {
				if left == nil && strings.HasPrefix(call, "stop ") {
					left = w.copy(t)
				}
				return nil
			}
			deployed(t, w)
			left.has = sockets.Work{Idle: 1}
			began := time.Now()
			if err := left.machine().Recover(t.Context(), "shop"); err != nil {
				t.Error(err)
			}
			told, waited := strings.Contains(strings.Join(left.calls, "\n"), "tell shop@"), time.Since(began) > 20*time.Second
			if told != kept || waited == kept {
				t.Errorf("only kept: %v, told to close: %v, waited until all is closed: %v", kept, told, waited)
			}
		})
	}
}

// TestRecoverTells: the clients of what a killed run has left are told while that drains.
func TestRecoverTells(t *testing.T) {
	for _, keepalive := range []string{"close", "leave"} {
		synctest.Test(t, func(t *testing.T) {
			w := up(t, watchSec)
			w.env(watchSec, "SYSTEMD_CLUSTER_DRAIN_KEEPALIVE="+keepalive)
			var left *world
			w.onCall = func(_ int, call string) error {
				if call == "stop shop@1.service" {
					left = w.copy(t)
				}
				return nil
			}
			deployed(t, w)
			left.has = sockets.Work{Idle: 1, Recent: 1}
			if err := left.machine().Recover(t.Context(), "shop"); err != nil {
				t.Error(err)
			}
			calls := strings.Join(left.calls, "\n")
			tell, stop := strings.Index(calls, "tell shop@1 shop@2"), strings.Index(calls, "stop shop@1.service")
			if told := tell >= 0; stop < 0 || tell > stop || told != (keepalive == "close") {
				t.Errorf("%s: told %v before the stop:\n%s", keepalive, told, calls)
			}
		})
	}
}
