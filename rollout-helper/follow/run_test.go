package follow

import (
	"context"
	"testing"

	godbus "github.com/godbus/dbus/v5"

	"app-rollout/rollout-helper/journal"
	"app-rollout/rollout-helper/rollout"
	"app-rollout/rollout-helper/systemd"
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
		r := &run{systemd: still{load: c.load}, service: "app-rollout@shop.service"}
		err := c.follow(t.Context(), r)
		if p := problem.Of(err); p.Remedy != c.remedy || p.Text == "" {
			t.Errorf("%s: got %+v, want the remedy %q", name, *p, c.remedy)
		}
	}
}
