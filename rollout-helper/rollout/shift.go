package rollout

import (
	"context"

	"app-rollout/units/step"
)

// shift gives all new connections to the candidate, at once.
func (r *rollout) shift(ctx context.Context) error {
	l, err := r.look(ctx)
	if err != nil {
		return err
	}
	if err := r.checkPaths(l); err != nil {
		return err
	}
	// What an instance that has ended left in its queue, the kernel may have given to
	// another one, which then answered in its place.
	if err := r.unbroken(l.of(r.fresh), "after it was ready"); err != nil {
		return err
	}
	if err := r.mark(); err != nil {
		return err
	}
	r.shifted = true
	if err := r.steer(l.view, l.of(r.candidate()), nil); err != nil {
		return err
	}
	r.observe(l)
	if r.receipt.Traffic == Steered && len(r.was) > 0 && r.tcp {
		r.say(Info, step.Shift, "all new connections go to %s", list(r.candidate()))
	}
	return nil
}

// mark records, before the switch, that the new units may have connections from
// here on: after a kill, recover drains them instead of just stopping them.
func (r *rollout) mark() error {
	if len(r.was) == 0 {
		return nil
	}
	i, err := r.store.Instances()
	if err != nil {
		return err
	}
	i.Shifted = r.new.Number
	return r.store.SaveInstances(i)
}
