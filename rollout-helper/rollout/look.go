package rollout

import (
	"context"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/systemd"
)

// look is what a rollout has seen at one tick. All that the tick decides, it
// decides from this.
type look struct {
	units map[string]systemd.Unit // by name: those of the app that systemd has loaded
	view  *sockets.View           // who listens
}

// of returns the named units, as far as they are loaded, in the order of the names.
func (l look) of(names []string) []systemd.Unit {
	var us []systemd.Unit
	for _, name := range names {
		if u, loaded := l.units[name]; loaded {
			us = append(us, u)
		}
	}
	return us
}

// look asks systemd for the state of the app's units, and the kernel who listens:
// once each, however many units there are.
func (r *rollout) look(ctx context.Context) (look, error) {
	us, err := r.refresh(ctx, r.app)
	if err != nil {
		return look{}, err
	}
	r.seen = byName(us)
	view, err := r.Traffic.Look()
	return look{r.seen, view}, err
}

func byName(us []systemd.Unit) map[string]systemd.Unit {
	units := make(map[string]systemd.Unit, len(us))
	for _, u := range us {
		units[u.Name] = u
	}
	return units
}

// glance is a look for steps that only need to know where the named units listen.
// It reads the sockets, and takes the units as they were seen before: a unit that
// is restarted keeps its control group. Systemd is asked only if one of them has
// none yet.
func (r *rollout) glance(ctx context.Context, names ...string) (look, error) {
	for _, name := range names {
		if r.seen[name].ControlGroup == "" {
			return r.look(ctx)
		}
	}
	view, err := r.Traffic.Look()
	return look{r.seen, view}, err
}
