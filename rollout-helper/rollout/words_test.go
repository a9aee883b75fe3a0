package rollout

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestChangedMeanwhile: an edit during the rollout that cannot be rolled out is told
// from what has been rolled out.
func TestChangedMeanwhile(t *testing.T) {
	for _, c := range []struct{ first, edit, err, event string }{
		{"V=1", "SYSTEMD_CLUSTER_NODES=x", "SYSTEMD_CLUSTER_NODES must be a number from 1 to 256, or auto (the .env was changed during the rollout, which went well); when that is mended", ""},
		{"BEHAVE=exits", "V=2", "exited with status 3", "the .env was changed during the rollout; the change is not rolled out"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := up(t)
			w.env(c.first)
			w.onCall = func(_ int, call string) error {
				if strings.HasPrefix(call, "start") {
					w.env(c.edit)
				}
				return nil
			}
			err := w.machine().Swap(t.Context(), "shop")
			if err == nil || !strings.Contains(err.Error(), c.err) || c.event != "" && (w.event(c.event) == nil || w.event(c.event).Level != Warning) {
				t.Errorf("Swap = %v; %+v", err, w.events)
			}
		})
	}
}

// TestHeldAdvice: an error of a held app does not advise to end the hold in silence.
func TestHeldAdvice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		w.deploys(t, "NEW=1")
		if err := w.machine().Rollback(t.Context(), "shop"); err != nil {
			t.Fatal(err)
		}
		w.onCall = func(int, string) error { return errFault }
		for name, do := range map[string]func(*Machine) error{
			"a run for all": func(m *Machine) error { return m.Deploy(t.Context(), "shop") },
			"a boot":        func(m *Machine) error { return m.Boot(t.Context(), "shop") },
		} {
			if err := do(w.machine()); err == nil || !strings.HasSuffix(err.Error(), "when that is mended: app-rollout run shop, which ends the hold") {
				t.Errorf("%s: %v", name, err)
			}
		}
		w.onCall = nil
		w.env("PORT=4000")
		if _, err := w.machine().Plan(t.Context(), "shop"); err == nil || !strings.HasSuffix(err.Error(), "then: app-rollout run shop, which ends the hold") {
			t.Errorf("Plan = %v", err)
		}
	})
}

// TestOneInstance: one instance is spoken of as one.
func TestOneInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t, "SYSTEMD_CLUSTER_NODES=1")
		w.deploys(t, "SYSTEMD_CLUSTER_NODES=1", "NEW=1")
		for _, text := range []string{"shop: shop@1 is ready", "shop@1 keeps all connections until the new one is ready"} {
			if w.event(text) == nil {
				t.Errorf("it does not say %q: %+v", text, w.events)
			}
		}
	})
}

// TestIdleSetting: a run says that a setting has no effect.
func TestIdleSetting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t, "SYSTEMD_CLUSTER_MODE=0", "SYSTEMD_CLUSTER_NODES=3")
		if e := w.event("SYSTEMD_CLUSTER_NODES has no effect without SYSTEMD_CLUSTER_MODE=1"); e == nil || e.Level != Warning {
			t.Errorf("%+v", w.events)
		}
	})
}

// TestLasting: what is read again after a reboot names its time.
func TestLasting(t *testing.T) {
	got := lasting("see: journalctl -b -u shop@3.service", time.Unix(1000, 5), time.Unix(1060, 5))
	if want := "see: journalctl --since=@1000 --until=@1061 -u shop@3.service"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
