package rollout

import (
	"context"
	"errors"
	"fmt"
	"time"

	"app-rollout/units/problem"
	"app-rollout/units/step"
)

// stop stops the old units.
func (r *rollout) stop(ctx context.Context) error {
	surplus := r.surplus()
	if len(surplus) == 0 {
		return nil
	}
	closes := ""
	if n := r.receipt.Closed; n > 0 {
		closes = fmt.Sprintf(", which closes %d connection(s) at rest", n)
	}
	r.say(Info, step.Stop, "stopping %s%s", list(surplus), closes)
	return r.following(func() error {
		return r.whileSteering(ctx, r.candidate(), func() error { return r.end(ctx, surplus, r.stopTime()) })
	})
}

// stopTime is how long the slower of both generations may take to stop.
func (r *rollout) stopTime() time.Duration {
	s := r.new.TimeoutStopSec
	if r.old != nil {
		s = max(s, r.old.TimeoutStopSec)
	}
	return seconds(s) + stopGrace
}

// end stops units, each within the limit, and lets systemd forget those that failed. A
// cancelled context does not end it: systemd finishes a stop that is under way anyway.
func (m *Machine) end(ctx context.Context, names []string, limit time.Duration) error {
	errs := make([]error, len(names))
	paced(len(names), half(), stopSlot, func(i int, _ func()) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
		defer cancel()
		errs[i] = m.endOne(ctx, names[i])
	})
	return errors.Join(errs...)
}

func (m *Machine) endOne(ctx context.Context, name string) error {
	us, err := m.Systemd.List(ctx, name)
	if err != nil {
		return err
	}
	if len(us) > 0 && us[0].Live() {
		result, err := m.Systemd.Stop(ctx, name)
		if err != nil {
			return fmt.Errorf("%s could not be stopped: %w", name, err)
		}
		if us, err = m.Systemd.List(ctx, name); err != nil {
			return err
		}
		if len(us) > 0 && us[0].Live() {
			return &problem.Problem{
				Text:   fmt.Sprintf("%s was to be stopped (%s) but is %s", name, result, us[0].Active),
				Remedy: "stop it: systemctl stop " + name,
			}
		}
	}
	if len(us) == 0 {
		return nil // systemd has forgotten it
	}
	return m.Systemd.ResetFailed(ctx, name)
}
