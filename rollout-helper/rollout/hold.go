package rollout

import (
	"context"
	"slices"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/systemd"
	"app-rollout/units/step"
)

// hold keeps new connections with the units that serve now. The new ones get none,
// whatever they bind.
func (r *rollout) hold(ctx context.Context) error {
	if len(r.was) == 0 {
		return nil
	}
	l, err := r.look(ctx)
	if err != nil {
		return err
	}
	serving := l.of(r.was)
	if r.groups, err = r.shared(l.view, serving); err != nil {
		return err
	}
	if err := r.noteListeners(l.view, serving); err != nil {
		return err
	}
	if err := r.steer(l.view, serving, nil); err != nil {
		return err
	}
	r.prepareTelling()
	if r.receipt.Traffic == Steered && len(r.groups) > 0 {
		r.say(Info, step.Hold, "%s %s all connections until %s ready", list(r.was), verb(r.was, "keeps", "keep"), verb(r.fresh, "the new one is", "the new ones are"))
	}
	return nil
}

// shared returns the groups that all the units listen in: those that clients know
// the app by. A port that each instance chose for itself is not among them.
func (r *rollout) shared(v *sockets.View, us []systemd.Unit) ([]sockets.Group, error) {
	var shared []sockets.Group
	seen := 0
	for _, u := range us {
		if !u.Up() {
			continue
		}
		own, err := v.Groups(u.ControlGroup)
		if err != nil {
			return nil, err
		}
		if seen++; seen == 1 {
			shared = own
			continue
		}
		shared = slices.DeleteFunc(shared, func(g sockets.Group) bool { return !slices.Contains(own, g) })
	}
	if seen == 1 {
		// With one unit, only the range that the kernel takes ports from tells
		// which port it chose.
		low, high := sockets.ClientPorts()
		shared = slices.DeleteFunc(shared, func(g sockets.Group) bool {
			port := g.Addr.Port()
			return port >= low && port <= high && int(port) != r.new.Port
		})
	}
	return shared, nil
}
