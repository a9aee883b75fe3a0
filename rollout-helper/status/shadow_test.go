package status

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"app-rollout/rollout-helper/systemd"
	"app-rollout/units"
	"app-rollout/units/store"
)

// started are the shop's two instances: what systemd has loaded for each, and what each
// process was started from. An empty text is not known.
func (e Eyes) started(loaded, first, second string) Eyes {
	source := func(n string) string { return units.StateDir + "/shop/generations/" + n + "/env" }
	var us []systemd.Unit
	for i, n := range []string{first, second} {
		u := systemd.Unit{Name: units.Instance{App: "shop", Number: i + 1}.Unit(), Active: "active", Sub: "running", MainPID: uint32(11 + i), Source: source(loaded)}
		if n != "" {
			u.LogFields = map[string]string{units.SourceField: source(n)}
		}
		us = append(us, u)
	}
	e.Systemd = scripted{units: us}
	return e
}

func (e Eyes) shop(t *testing.T) App {
	t.Helper()
	r, err := e.Report(t.Context(), []string{"shop"})
	if err != nil || len(r.Apps) != 1 || len(r.Apps[0].Instances) != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	return r.Apps[0]
}

// TestGenerations: each instance has the generation that its process was started from,
// whatever its unit has become. Only those of the current one count as up.
func TestGenerations(t *testing.T) {
	e := machine(t)
	for _, c := range []struct {
		loaded, first, second string
		want                  [2]int
		state                 string
	}{
		{"1", "1", "1", [2]int{1, 1}, "up"},
		{"2", "1", "1", [2]int{1, 1}, "up"},
		{"1", "1", "2", [2]int{1, 2}, "degraded"},
		{"1", "2", "2", [2]int{2, 2}, "down"},
		{"1", "", "", [2]int{1, 1}, "up"},
	} {
		a := e.started(c.loaded, c.first, c.second).shop(t)
		if got := [2]int{a.Instances[0].Generation, a.Instances[1].Generation}; got != c.want || a.State != c.state {
			t.Errorf("%+v: %v, %s", c, got, a.State)
		}
	}
}

// TestKept: an instance that a change of the number of nodes has kept is the current
// generation's. One of an equal generation that is about to go is not.
func TestKept(t *testing.T) {
	e := machine(t)
	text := "SYSTEMD_CLUSTER_MODE=1\nSYSTEMD_EXEC_START=/usr/bin/shop\nPORT=8080\nPASSWORD=1\nSYSTEMD_CLUSTER_NODES=1\n"
	if err := os.WriteFile(e.Layout.Env("shop"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	spec, err := e.Layout.Read("shop")
	if err != nil {
		t.Fatal(err)
	}
	disk := store.Of(e.Layout, "shop")
	g, err := disk.Freeze(spec, at)
	if err := errors.Join(err, disk.Commit(g), os.MkdirAll(e.Layout.Run("shop"), 0o700),
		disk.SaveInstances(store.Instances{Next: 3, Generations: map[int][]int{3: {2}}})); err != nil {
		t.Fatal(err)
	}
	a := e.started("3", "1", "1").shop(t)
	if got := [2]int{a.Instances[0].Generation, a.Instances[1].Generation}; got != [2]int{1, 3} {
		t.Errorf("they run %v", got)
	}
}

// TestShadows: files in the names of the app's units are told, and do not make the .env
// wrong. A mask of what shares the ports is the reason why they are not shared.
func TestShadows(t *testing.T) {
	e := machine(t)
	for _, unit := range []string{"shop@.service", units.PortsService} {
		path := e.Layout.Path("/etc/systemd/system/" + unit)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink("/dev/null", path)); err != nil {
			t.Fatal(err)
		}
	}
	r, err := e.Report(t.Context(), []string{"shop"})
	if err != nil {
		t.Fatal(err)
	}
	a := r.Apps[0]
	if len(a.Shadows) != 1 || a.Shadows[0].Remedy != "systemctl unmask shop@.service" || a.Asked.State != Rejected {
		t.Errorf("%+v, %+v", a.Shadows, a.Asked)
	}
	if m := r.Machine; !strings.Contains(m.PortSharingWhy, "masks app-rollout-ports.service") || m.PortSharingRemedy != "systemctl unmask app-rollout-ports.service" {
		t.Errorf("%+v", m)
	}
}
