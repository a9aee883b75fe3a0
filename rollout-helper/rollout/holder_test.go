package rollout

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
)

// TestPortTaken: who has the port that an instance does not get is named, whether the
// instance exits or waits for it.
func TestPortTaken(t *testing.T) {
	for behave, how := range map[string]string{
		"exits": "exited with status 3",
		"deaf":  "was not ready after 1 s: it does not listen on its PORT 3000",
	} {
		for _, taken := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.strange = taken
				w.env("BEHAVE="+behave, "SYSTEMD_CLUSTER_READY_SEC=1")
				who, do := "", ""
				if taken {
					who, do = ", and its PORT 3000 is taken by stranger on 0.0.0.0:3000", "stop that, or give the app another port; "
				}
				err := w.machine().Swap(t.Context(), "shop")
				if err == nil || !strings.Contains(err.Error(), ".service "+how+who+"; nothing serves; "+do+"see: journalctl -b -u shop@") {
					t.Errorf("Swap = %v", err)
				}
				var ended *RunError
				if !errors.As(err, &ended) || !strings.HasPrefix(ended.Unit, "shop@") {
					t.Errorf("it does not say which instance it was: %+v", ended)
				}
			})
		}
	}
}
