package rollout

import (
	"strings"
	"testing"
	"testing/synctest"
)

// A wrapper that keeps the stop signal from the server is told at the end of a run, in
// one line; not if systemd itself tells all processes.
func TestWrappedIsTold(t *testing.T) {
	for line, want := range map[string]int{"": 1, "SYSTEMD_KILL_MODE=control-group": 0} {
		synctest.Test(t, func(t *testing.T) {
			w := up(t, "BEHAVE=wrapped", line)
			told := 0
			for _, e := range w.events {
				if !strings.Contains(e.Text, "a stop kills node before it can finish: SIGTERM reaches sh first") {
					continue
				}
				told++
				if e.Level != Warning || e.Generation != 1 || !strings.Contains(e.Remedy, "SYSTEMD_KILL_MODE=control-group") {
					t.Errorf("it is told as %+v", e)
				}
			}
			if told != want {
				t.Errorf("%q: told %d times, want %d: %+v", line, told, want, w.events)
			}
			if current(t, w) != 1 {
				t.Error("the rollout failed")
			}
		})
	}
}
