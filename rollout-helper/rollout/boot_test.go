package rollout

import (
	"os"
	"testing"
	"testing/synctest"
	"time"

	"app-rollout/units"
)

// TestAdoptionDuringReload: what a daemon-reload has taken away for a moment is
// waited for, whole, and then recorded; nothing is rolled out beside it.
func TestAdoptionDuringReload(t *testing.T) {
	for _, part := range []string{"", "/environment"} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.env()
			w.reboot()
			dir := w.layout.Path(units.FirstGeneration(units.GeneratorDir, "shop"))
			gone, away := dir+part, w.layout.Path("/away")
			if err := os.Rename(gone, away); err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(2*time.Second, func() {
				if err := os.Rename(away, gone); err != nil {
					t.Error(err)
				}
			})
			if err := w.machine().Boot(t.Context(), "shop"); err != nil {
				t.Fatal(err)
			}
			if got, want := w.running(), "shop@1/1 shop@2/1"; got != want || current(t, w) != 1 {
				t.Errorf("%s run, want %s; the current generation is %d", got, want, current(t, w))
			}
		})
	}
}

// TestBootNeverReady: when what was booted does not become ready, what is asked
// for is rolled out.
func TestBootNeverReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.env("BEHAVE=deaf")
		w.reboot()
		w.env()
		if err := w.machine().Boot(t.Context(), "shop"); err != nil {
			t.Fatal(err)
		}
		if got, want := w.running(), "shop@3/2 shop@4/2"; got != want || current(t, w) != 2 {
			t.Errorf("%s run, want %s; the current generation is %d", got, want, current(t, w))
		}
		w.clean(t)
	})
}
