package rollout

import (
	"context"
	"errors"
	"slices"
	"time"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/steering"
	"app-rollout/rollout-helper/systemd"
	"app-rollout/units/step"
)

// unsteered is how traffic goes where it cannot be steered.
func (r *rollout) unsteered() string {
	if r.Traffic.Migrates() {
		return Migrated
	}
	return Plain
}

// steer sends new connections to the serving units as long as this machine can
// do that. When it cannot, the rollout goes on without, and says why: it never
// fails for that.
func (r *rollout) steer(v *sockets.View, serving, asked []systemd.Unit) error {
	if r.receipt.Traffic != Steered {
		return nil
	}
	err := r.Traffic.Steer(r.app, v, serving, asked)
	var not *steering.Unavailable
	if errors.As(err, &not) {
		r.receipt.Traffic, r.receipt.TrafficReason = r.unsteered(), not.Reason
		r.say(Warning, step.Hold, "traffic is not steered, only %s: %s", r.receipt.Traffic, r.receipt.TrafficReason)
		return r.Traffic.Release(r.app, slices.Concat(serving, asked))
	}
	return err
}

// steerTo looks, and sends new connections to the named units.
func (r *rollout) steerTo(ctx context.Context, names []string) error {
	l, err := r.look(ctx)
	if err != nil {
		return err
	}
	return r.steer(l.view, l.of(names), nil)
}

// whileSteering calls do, and until that returns keeps new connections with the
// named units. If one of them is restarted meanwhile, its new listeners get their
// share.
func (r *rollout) whileSteering(ctx context.Context, names []string, do func() error) error {
	return during(tick, do, func() {
		if len(names) == 0 || r.receipt.Traffic != Steered {
			return
		}
		// The next step meets an error again.
		if l, err := r.glance(context.WithoutCancel(ctx), names...); err == nil {
			_ = r.steer(l.view, l.of(names), nil)
		}
	})
}

// during calls do, and until that returns calls each at every tick.
func during(tick time.Duration, do func() error, each func()) error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-ticker.C:
			each()
		}
	}
}
