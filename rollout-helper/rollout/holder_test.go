package rollout

import (
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"

	"app-rollout/units/store"
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
					who, do = ", and its PORT 3000 is taken by stranger on 0.0.0.0:3000", "stop that, or give the app another port, unless the app listens on another address; "
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

// TestPortNotFree: of a stranger on the port of an app that does not run yet it is not said
// that it listens there too.
func TestPortNotFree(t *testing.T) {
	w := newWorld(t)
	w.strange = true
	if err := os.WriteFile(w.layout.Path("/etc/passwd"), []byte("shop:x:0:0::/:/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := &rollout{Machine: w.machine(), app: "shop", new: new(store.Generation)}
	r.new.User, r.new.Port = "shop", 3000
	const want = "stranger.service listens on 0.0.0.0:3000; stop it or give one of them another port"
	if err := r.checkPortFree(); err == nil || err.Error() != want {
		t.Errorf("%v, want %q", err, want)
	}
}
