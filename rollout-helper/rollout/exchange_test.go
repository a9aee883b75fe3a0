package rollout

import (
	"strings"
	"testing"
	"testing/synctest"
)

func TestModes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		steps := []struct{ line, running string }{
			{"SYSTEMD_CLUSTER_MODE=0", "shop/2"},
			{"SYSTEMD_CLUSTER_MODE=0", "shop/3"},
			{"SYSTEMD_CLUSTER_MODE=1", "shop@3/4 shop@4/4"},
		}
		for _, c := range steps {
			w.env(c.line)
			if err := w.machine().Swap(t.Context(), "shop"); err != nil {
				t.Fatal(err)
			}
			if got := w.running(); got != c.running {
				t.Fatalf("with %s %s run, want %s", c.line, got, c.running)
			}
			w.clean(t)
		}
	})
}

// TestServiceComesBack: the one service of mode 0 is restarted on its old
// generation when the new one fails.
func TestServiceComesBack(t *testing.T) {
	for behave, why := range map[string]string{
		"deaf":  "does not listen on its PORT 3000",
		"mute":  "answers GET / with status 500",
		"dies":  "exited with status 3 while it was watched",
		"sours": "answers GET / with status 500 while it was watched",
	} {
		synctest.Test(t, func(t *testing.T) {
			w := up(t, "SYSTEMD_CLUSTER_MODE=0")
			w.env("SYSTEMD_CLUSTER_MODE=0", "SYSTEMD_CLUSTER_HEALTH_PATH=/", "BEHAVE="+behave)
			err := w.machine().Swap(t.Context(), "shop")
			if err == nil || !strings.Contains(err.Error(), why) {
				t.Fatalf("%s: Swap = %v, want %q", behave, err, why)
			}
			// The service was restarted, and has been looked at after that.
			if back := "; generation 1 serves again; "; !strings.Contains(err.Error(), back) {
				t.Errorf("%s: Swap = %v, want %q", behave, err, back)
			}
			if got, want := w.running(), "shop/1"; got != want {
				t.Fatalf("%s: %s run, want %s", behave, got, want)
			}
			w.clean(t)
		})
	}
}
