package rollout

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"testing/synctest"

	"app-rollout/units"
)

// TestEdited: a unit file of a rollout that somebody has changed is told, and the command
// that is named with it puts it right. One that an older version has written is not.
func TestEdited(t *testing.T) {
	older := func(text []byte) []byte { return bytes.Replace(text, []byte("Conflicts=rescue.target\n"), nil, 1) }
	nicer := func(text []byte) []byte {
		return bytes.Replace(text, []byte("[Service]\n"), []byte("[Service]\nNice=5\n"), 1)
	}
	for mode, names := range map[string][]string{"0": {"shop.service"}, "1": {"shop@3.service", "shop@4.service"}} {
		synctest.Test(t, func(t *testing.T) {
			w := up(t, "SYSTEMD_CLUSTER_MODE="+mode)
			deployed(t, w)
			m := w.machine()
			change := func(do func(text []byte) []byte) {
				t.Helper()
				for _, name := range names {
					path := w.layout.UnitFile(name)
					text, err := os.ReadFile(path)
					if err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(path, do(text), 0o644); err != nil {
						t.Fatal(err)
					}
				}
			}
			if all := m.Edited("shop"); len(all) > 0 {
				t.Errorf("nobody has changed anything: %v", all)
			}
			change(older)
			if all := m.Edited("shop"); len(all) > 0 {
				t.Errorf("an older version has written it: %v", all)
			}
			change(nicer)
			all := m.Edited("shop")
			if len(all) != len(names) {
				t.Fatalf("mode %s: %v", mode, all)
			}
			if p := all[0]; p.Path != units.UnitDir+"/"+names[0] || p.Remedy != "app-rollout restart shop" {
				t.Errorf("%v", p)
			}
			if err := w.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.onCall = func(_ int, call string) error {
				if u := w.units["shop.service"]; call == "restart shop.service" && strings.Contains(u.text, "Nice=5") {
					t.Error("it is restarted as somebody has changed it")
				}
				return nil
			}
			if err := m.Restart(t.Context(), "shop"); err != nil {
				t.Error(err)
			}
			if all := m.Edited("shop"); len(all) > 0 {
				t.Errorf("after the restart: %v", all)
			}
			for name, u := range w.units {
				if strings.Contains(u.text, "Nice=5") {
					t.Errorf("%s is loaded as somebody has changed it", name)
				}
			}
			w.clean(t)
		})
	}
}
