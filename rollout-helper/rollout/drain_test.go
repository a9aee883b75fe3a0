package rollout

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

// TestDrainTime: old instances get the time that they were promised, or a shorter one
// that the new .env asks for. A rollback shortens nothing.
func TestDrainTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t, "SYSTEMD_CLUSTER_WATCH_SEC=0", "SYSTEMD_CLUSTER_DRAIN_SEC=20")
		m := w.machine()
		for _, c := range []struct{ asked, got int }{{30, 20}, {5, 5}, {5, 5}, {10, 5}, {40, 10}} {
			w.env("SYSTEMD_CLUSTER_WATCH_SEC=0", fmt.Sprint("SYSTEMD_CLUSTER_DRAIN_SEC=", c.asked))
			p, err := m.Plan(t.Context(), "shop")
			if err != nil {
				t.Fatal(err)
			}
			w.events = nil
			if err := m.Swap(t.Context(), "shop"); err != nil {
				t.Fatal(err)
			}
			if !w.drainedFor(c.got) || p.Drain() != c.got {
				t.Errorf("%d s are asked for: not %d s, planned %d: %v", c.asked, c.got, p.Drain(), w.events)
			}
		}
		w.events = nil
		if err := m.Rollback(t.Context(), "shop"); err != nil || !w.drainedFor(40) {
			t.Errorf("a rollback: not 40 s, or %v: %v", err, w.events)
		}
	})
}

// drainedFor says whether a drain has waited, for so many seconds at most.
func (w *world) drainedFor(seconds int) bool {
	return slices.ContainsFunc(w.events, func(e Event) bool { return strings.HasSuffix(e.Text, fmt.Sprintf("for %d s at most", seconds)) })
}
