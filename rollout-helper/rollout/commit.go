package rollout

import (
	"context"

	"app-rollout/units/step"
)

// commit makes the candidate the current generation. The old units get files
// of their own first, so that a daemon-reload does not make them new.
func (r *rollout) commit(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if r.old != nil {
		if err := r.pin(r.old.Number, r.surplus()); err != nil {
			return err
		}
	}
	r.record.Result = "ready"
	if err := r.store.Commit(r.new); err != nil {
		return err
	}
	r.say(Info, step.Commit, "generation %d is the current one", r.new.Number)
	return nil
}

// committed asks the store, since a failed commit may have come to pass.
func (r *rollout) committed() (bool, error) {
	current, err := r.store.Current()
	return current != nil && current.Number == r.new.Number, err
}
