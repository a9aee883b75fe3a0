package rollout

import (
	"os"
	"strings"
	"testing"
	"testing/synctest"
)

// TestSurge: the new instances need their memory beside the old ones.
func TestSurge(t *testing.T) {
	for _, c := range []struct {
		name    string
		meminfo string
		nodes   string
		warning string // "" for none
	}{
		{"enough", "MemTotal: 9 kB\nMemAvailable:     614400 kB\nBuffers: 1 kB\n", "2", ""},
		{"too little", "MemFree: 1 kB\nMemAvailable:     614399 kB\n", "2", "599 MiB of memory are available, but shop@3 shop@4 may need 600 MiB, as the running ones use 600 MiB: some may be killed for want of memory"},
		{"growing", "MemAvailable:     614400 kB\n", "5", "600 MiB of memory are available, but shop@3 shop@4 shop@5 may need 900 MiB, as the running ones use 600 MiB: some may be killed for want of memory"},
		{"unknown", "MemFree: 1 kB\n", "2", ""},
		{"garbage", "MemAvailable: much\n", "2", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := up(t)
				for _, u := range w.units {
					u.Memory = 300 << 20
				}
				if err := os.MkdirAll(w.layout.Path("/proc"), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(w.layout.Path("/proc/meminfo"), []byte(c.meminfo), 0o644); err != nil {
					t.Fatal(err)
				}
				w.env("SYSTEMD_CLUSTER_NODES=" + c.nodes)
				w.events = nil
				if err := w.machine().Swap(t.Context(), "shop"); err != nil {
					t.Fatal(err)
				}
				var warnings []string
				for _, e := range w.events {
					if e.Level == Warning {
						warnings = append(warnings, e.Text)
					}
				}
				if got := strings.Join(warnings, "\n"); got != c.warning {
					t.Errorf("warned %q, want %q", got, c.warning)
				}
			})
		})
	}
}
