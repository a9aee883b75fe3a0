package rollout

import (
	"context"
	"errors"

	"app-rollout/units/step"
)

// commit makes the candidate the current generation. First the old units get files of
// their own, so that a daemon-reload does not turn them into the new generation's.
func (r *rollout) commit(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !r.tcp {
		// It may have opened late what it listens on.
		l, err := r.look(ctx)
		if err != nil {
			return err
		}
		if err := r.checkPaths(l); err != nil {
			return err
		}
	}
	if r.old != nil {
		// Without its unit the old generation cannot be kept. To go on is the way out.
		var damaged *damagedUnit
		if err := r.writeUnits(r.old.Number, r.surplus()); errors.As(err, &damaged) {
			r.warn(step.Commit, err)
		} else if err != nil {
			return err
		}
	}
	// A restart knows them already.
	if ports := r.bound(ctx); ports != nil || !r.restart {
		r.new.Ports = ports
	}
	r.receipt.Result = "ready"
	if r.restart {
		return r.takeOver()
	}
	if err := r.store.Commit(r.new); err != nil {
		return err
	}
	r.say(Info, step.Commit, "generation %d is the current one", r.new.Number)
	return nil
}

// committed asks the store, because a commit that returned an error may have happened.
func (r *rollout) committed() (bool, error) {
	if r.restart {
		return r.tookOver()
	}
	current, err := r.store.Current()
	return current != nil && current.Number == r.new.Number, err
}
