package doctor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"app-rollout/rollout-helper/rollout"
	"app-rollout/units"
)

// TestMaskedPart: a mask of what shares the ports is told before the first instance
// starts and after it, once, with the command that works.
func TestMaskedPart(t *testing.T) {
	l := units.Layout{Root: t.TempDir()}
	path := l.Path("/etc/systemd/system/" + units.PortsService)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink("/dev/null", path)); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]rollout.Systemd{"before": noUnits{}, "after": shared{}} {
		d := &Doctor{
			Machine: &rollout.Machine{Layout: l, Systemd: s, Traffic: migrates{}},
			apps:    map[string]*units.Spec{"shop": {Plan: units.Plan{Port: 8080, ReusePort: true}}},
		}
		r := New()
		d.Host(context.Background(), r)
		said := ""
		for _, f := range r.Findings {
			said += f.String() + "\n"
		}
		const want = "warning: /etc/systemd/system/app-rollout-ports.service: masks app-rollout-ports.service: instances cannot share their port, unless the app sets SO_REUSEPORT itself; systemctl unmask app-rollout-ports.service\n"
		if strings.Count(said, want) != 1 || strings.Contains(said, "not in force") {
			t.Errorf("%s:\n%s", name, said)
		}
	}
}

type migrates struct{ kernel }

func (migrates) Migrates() bool { return true }

// TestShadowFound: each file in the name of an app's unit is an error of its own.
func TestShadowFound(t *testing.T) {
	l := units.Layout{Root: t.TempDir()}
	var links []error
	for _, unit := range []string{"shop@.service", "shop@3.service"} {
		path := l.Path("/etc/systemd/system/" + unit)
		links = append(links, os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink("/dev/null", path))
	}
	env := l.Env("shop")
	if err := errors.Join(append(links, os.MkdirAll(filepath.Dir(env), 0o755), os.WriteFile(env, nil, 0o644))...); err != nil {
		t.Fatal(err)
	}
	d := &Doctor{Machine: &rollout.Machine{Layout: l, Systemd: noUnits{}, Traffic: kernel{}}}
	r := New()
	d.App(context.Background(), r, "shop")
	if len(r.Findings) != 2 || r.OK || r.Findings[0].Remedy != "systemctl unmask shop@.service" || r.Findings[1].Remedy != "systemctl unmask shop@3.service" {
		t.Errorf("%v", r.Findings)
	}
}
