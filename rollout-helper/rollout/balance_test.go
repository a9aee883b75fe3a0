package rollout

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

// TestBalances: between two rollouts those that serve are balanced, whatever became of
// the rollout, if their own generation asks for it. Where it cannot be done each rollout
// says so once, and does not fail for it.
func TestBalances(t *testing.T) {
	const leastconn, cannot = "SYSTEMD_CLUSTER_BALANCE=leastconn", "new connections are not balanced, but go by the kernel's hash: no BPF here"
	for _, c := range []struct {
		name, before, asks, unbalance string
		balanced                      string // who is, in the end
	}{
		{name: "a rollout", before: leastconn, asks: leastconn, balanced: "shop@3.service shop@4.service"},
		{name: "the first that asks for it", asks: leastconn, balanced: "shop@3.service shop@4.service"},
		{name: "asked for no more", before: leastconn},
		{name: "never asked for"},
		{name: "the way back", before: leastconn, asks: "BEHAVE=dies", balanced: "shop@1.service shop@2.service"},
		{name: "more instances", before: leastconn, asks: leastconn + "\nSYSTEMD_CLUSTER_NODES=3", balanced: "shop@1.service shop@2.service shop@3.service"},
		{name: "one service", before: leastconn, asks: leastconn + "\nSYSTEMD_CLUSTER_MODE=0", balanced: "shop.service"},
		{name: "impossible", before: leastconn, asks: leastconn, unbalance: "no BPF here"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := up(t, watchSec, c.before)
			if c.before == leastconn && len(w.balanced) != 2 {
				t.Errorf("%s: before it, %q are balanced", c.name, w.balanced)
			}
			w.unbalance, w.events = c.unbalance, nil
			w.env(watchSec, c.asks)
			err := w.machine().Swap(t.Context(), "shop")
			if fails := strings.Contains(c.asks, "dies"); (err != nil) != fails {
				t.Errorf("%s: %v", c.name, err)
			}
			slices.Sort(w.balanced)
			if got := strings.Join(w.balanced, " "); got != c.balanced {
				t.Errorf("%s: balanced are %q, want %q", c.name, got, c.balanced)
			}
			said := strings.Count(w.said(), cannot)
			if want := strings.Count(c.unbalance, "no BPF here"); said != want {
				t.Errorf("%s: said %d times, want %d:\n%s", c.name, said, want, w.said())
			}
		})
	}
}

// TestBalancesAgain: the recovery after a killed run balances what serves.
func TestBalancesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t, "SYSTEMD_CLUSTER_BALANCE=leastconn")
		w.balanced = nil // the run has steered, and was killed
		if err := w.machine().Recover(t.Context(), "shop"); err != nil || len(w.balanced) != 2 {
			t.Errorf("%q are balanced, %v", w.balanced, err)
		}
	})
}
