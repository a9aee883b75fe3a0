package rollout

import (
	"context"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/systemd"
)

// look is what one tick has seen. What the tick decides, it decides from this.
type look struct {
	units map[string]systemd.Unit // the app's units that systemd has loaded, by name
	view  *sockets.View           // who listens
}

// of returns those of the named units that are loaded, in the order of the names.
func (l look) of(names []string) []systemd.Unit {
	var us []systemd.Unit
	for _, name := range names {
		if u, loaded := l.units[name]; loaded {
			us = append(us, u)
		}
	}
	return us
}

// look asks systemd how the app's units are, and the kernel who listens: once
// each, however many units there are.
func (r *rollout) look(ctx context.Context) (look, error) {
	us, err := r.refresh(ctx, r.app)
	if err != nil {
		return look{}, err
	}
	r.seen = make(map[string]systemd.Unit, len(us))
	for _, u := range us {
		r.seen[u.Name] = u
	}
	view, err := r.Traffic.Look()
	return look{r.seen, view}, err
}

// glance is a look at who listens alone, for steps that the state of a unit
// changes nothing in: a unit keeps its control group over a restart, and the
// kernel tells what listens in that. Systemd is asked only if the control group
// of one of the named units is not known.
func (r *rollout) glance(ctx context.Context, names ...string) (look, error) {
	for _, name := range names {
		if r.seen[name].ControlGroup == "" {
			return r.look(ctx)
		}
	}
	view, err := r.Traffic.Look()
	return look{r.seen, view}, err
}
