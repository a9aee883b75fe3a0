package follow

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	godbus "github.com/godbus/dbus/v5"

	"app-rollout/rollout-helper/journal"
	"app-rollout/rollout-helper/rollout"
	"app-rollout/rollout-helper/systemd"
	"app-rollout/units"
	"app-rollout/units/problem"
)

// still is a systemd with one unit, of which no job ends.
type still struct {
	rollout.Systemd
	load string // the unit's LoadState
}

func (s still) Units(context.Context, ...string) ([]systemd.Unit, error) {
	return []systemd.Unit{{Load: s.load}}, nil
}

func (s still) Start(ctx context.Context, _ string) (string, error) {
	if s.load == "not loaded" {
		return "", godbus.Error{Name: "org.freedesktop.systemd1.UnitMasked"}
	}
	<-ctx.Done()
	return "", ctx.Err()
}

// A mask is taken away where it lies: of the service or of its template, for good or until
// the next boot.
func TestMasked(t *testing.T) {
	for path, want := range map[string]string{
		"/etc/systemd/system/app-rollout@shop.service": "systemctl unmask app-rollout@shop.service",
		"/run/systemd/system/app-rollout@shop.service": "systemctl unmask --runtime app-rollout@shop.service",
		"/etc/systemd/system/app-rollout@.service":     "systemctl unmask app-rollout@.service",
		"/run/systemd/system/app-rollout@.service":     "systemctl unmask --runtime app-rollout@.service",
	} {
		l := units.Layout{Root: t.TempDir()}
		if err := errors.Join(os.MkdirAll(filepath.Dir(l.Path(path)), 0o755), os.Symlink("/dev/null", l.Path(path))); err != nil {
			t.Fatal(err)
		}
		r := &run{systemd: still{load: "masked"}, layout: l, service: "app-rollout@shop.service"}
		p := problem.Of(r.follow(t.Context()).err)
		if p.Remedy != want || p.Path != path || !strings.Contains(p.Text, "app-rollout@shop.service") {
			t.Errorf("%s: got %+v, want the remedy %q", path, *p, want)
		}
	}
}

// A run that cannot be followed ends with an error that says what to do in a field.
func TestRemedies(t *testing.T) {
	t.Setenv("PATH", "") // there is no journalctl
	ended := &journal.Reader{Records: make(chan journal.Record)}
	close(ended.Records)
	for name, c := range map[string]struct {
		load   string
		follow func(context.Context, *run) error
		remedy string
	}{
		"masked": {"masked", func(ctx context.Context, r *run) error { return r.follow(ctx).err },
			"systemctl unmask app-rollout@shop.service"},
		"masked, and not loaded": {"not loaded", func(ctx context.Context, r *run) error { _, err := r.start(ctx, new(journal.Reader)); return err },
			"systemctl unmask app-rollout@shop.service"},
		"no journal": {"loaded", func(ctx context.Context, r *run) error { return r.follow(ctx).err },
			"to roll out without following: systemctl start app-rollout@shop.service"},
		"journalctl ends": {"loaded", func(ctx context.Context, r *run) error { _, err := r.start(ctx, ended); return err },
			"see: journalctl -u app-rollout@shop.service"},
	} {
		r := &run{systemd: still{load: c.load}, layout: units.Layout{Root: t.TempDir()}, service: "app-rollout@shop.service"}
		err := c.follow(t.Context(), r)
		if p := problem.Of(err); p.Remedy != c.remedy || p.Text == "" {
			t.Errorf("%s: got %+v, want the remedy %q", name, *p, c.remedy)
		}
	}
}
