package rollout

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/synctest"

	"app-rollout/units/store"
)

// TestNoLongerRejected: what failed once and became ready since is not rejected, and
// neither is what failed by no fault of its own.
func TestNoLongerRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		disk := store.Of(w.layout, "shop")
		rejected := func(want int) {
			t.Helper()
			g, err := disk.Rejected()
			if err != nil || want == 0 && g != nil || want > 0 && (g == nil || g.Number != want) {
				t.Errorf("rejected is %+v, %v, want %d", g, err, want)
			}
		}
		fails := func(verb string) {
			t.Helper()
			w.onCall = func(_ int, call string) error {
				if strings.HasPrefix(call, verb) && w.units["shop@3.service"] != nil {
					return errFault
				}
				return nil
			}
			if err := w.machine().Swap(t.Context(), "shop"); err == nil || !strings.Contains(err.Error(), "generation 1 still serves") {
				t.Fatalf("Swap = %v", err)
			}
			w.onCall = nil
		}
		w.env("NEW=1")
		fails("steer")
		rejected(0)
		w.starts = func(u *fakeUnit) (string, error) { return "", errFault }
		if err := w.machine().Swap(t.Context(), "shop"); err == nil {
			t.Fatal("it succeeds")
		}
		w.starts = nil
		failed, err := disk.Next()
		if err != nil {
			t.Fatal(err)
		}
		failed--
		rejected(failed)
		if err := os.Rename(disk.Dir(failed), w.layout.Path("/away")); err != nil {
			t.Fatal(err)
		}
		if err := copyTree(w.layout.Path("/away"), disk.Dir(failed)); err != nil {
			t.Fatal(err)
		}
		w.deploys(t, "NEW=1")
		if _, err := os.Lstat(w.layout.State("shop") + "/rejected"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("it would count again when the generation that became ready is gone: %v", err)
		}
		if err := w.machine().Rollback(t.Context(), "shop"); err != nil {
			t.Fatal(err)
		}
		rejected(0)
		// 0.1.0 left it there.
		if err := errors.Join(copyTree(w.layout.Path("/away"), disk.Dir(failed)), os.WriteFile(w.layout.State("shop")+"/rejected", fmt.Appendln(nil, failed), 0o600)); err != nil {
			t.Fatal(err)
		}
		rejected(0)
	})
}
