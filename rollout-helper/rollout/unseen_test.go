package rollout

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"app-rollout/units/store"
)

// TestRecoverUnseen: what an unfinished run has left is stopped though nobody can tell
// who listens. Before the shift that is not asked; after it, strays get their whole
// time to drain.
func TestRecoverUnseen(t *testing.T) {
	for _, shifted := range []int{0, 2} {
		synctest.Test(t, func(t *testing.T) {
			w := up(t)
			if err := w.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Start(t.Context(), "shop@3.service"); err != nil {
				t.Fatal(err)
			}
			disk := store.Of(w.layout, "shop")
			given, err := disk.Instances()
			if err != nil {
				t.Fatal(err)
			}
			given.Shifted = shifted
			if err := disk.SaveInstances(given); err != nil {
				t.Fatal(err)
			}
			w.onCall = func(_ int, call string) error {
				if call == "look" {
					return errors.New("no sock_diag")
				}
				return nil
			}
			err = w.machine().Recover(t.Context(), "shop")
			if got := w.running(); got != "shop@1/1 shop@2/1" {
				t.Errorf("shifted %d: %s run: %v", shifted, got, err)
			}
			if told := err != nil && strings.Contains(err.Error(), "no sock_diag"); told != (shifted > 0) {
				t.Errorf("shifted %d: %v", shifted, err)
			}
		})
	}
}
