package rollout

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"app-rollout/units/store"
)

// TestOneLook: each tick of a rollout reads the sockets once, and asks systemd for
// all units at once; beside that, each instance costs a few calls of its own.
func TestOneLook(t *testing.T) {
	for _, nodes := range []int{2, 64, 128} {
		for _, behave := range []string{"ok", "boots"} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				env := func(line string) {
					w.env(watchSec, fmt.Sprintf("SYSTEMD_CLUSTER_NODES=%d", nodes), "SYSTEMD_CLUSTER_READY_SEC=600", line)
				}
				env("BEHAVE=ok")
				deployed(t, w)
				env("BEHAVE=" + behave)
				w.calls = nil
				deployed(t, w)

				g, err := store.Of(w.layout, "shop").Current()
				if err != nil {
					t.Fatal(err)
				}
				ticks, looks, asked := 0, 0, 0
				for _, s := range g.Rollout.Steps {
					every := map[string]time.Duration{"start": bootTick, "drain": drainTick}[s.Name]
					if every == 0 {
						every = tick
					}
					ticks += 1 + int(math.Ceil(s.Milliseconds/1000/every.Seconds()))
				}
				for _, call := range w.calls {
					switch {
					case call == "look":
						looks++
					case call == "units", strings.HasPrefix(call, "start "), strings.HasPrefix(call, "stop "), strings.HasPrefix(call, "reset-failed "):
						asked++
					}
				}
				if looks > ticks {
					t.Errorf("%d %s: the sockets were read %d times in %d ticks", nodes, behave, looks, ticks)
				}
				// Started, looked at, looked at, stopped, looked at, forgotten.
				if most := 6*nodes + ticks + 10; asked > most {
					t.Errorf("%d %s: systemd was called %d times, more than %d, in %d ticks", nodes, behave, asked, most, ticks)
				}
			})
		}
	}
}
