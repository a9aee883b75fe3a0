package rollout

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"

	"app-rollout/units"
	"app-rollout/units/step"
)

// Restart replaces the instances of the current generation by new ones of the same
// generation, with the steps and the proofs of a rollout: what has changed lies below
// the app, as a library that was upgraded. Nothing is frozen, no .env is read, and a
// hold stays.
func (m *Machine) Restart(ctx context.Context, app string) error {
	return m.locked(ctx, app, "app-rollout restart "+app, func() error { return m.restart(ctx, app) })
}

func (m *Machine) restart(ctx context.Context, app string) error {
	if err := m.recover(ctx, app); err != nil {
		m.Report(warning(app, step.Recover, err))
	}
	r, s, err := m.newRollout(ctx, app)
	if err != nil {
		return err
	}
	r.restart = true
	if r.old == nil {
		return told(app+" has never been ready: there is nothing to restart",
			"to roll out what its .env asks for: app-rollout run "+app)
	}
	if len(r.was) == 0 {
		return m.stopped(app)
	}
	if refusal := s.refusal(r.old.Plan, r.again()); refusal != nil {
		return refusal
	}
	same := *r.old
	r.new = &same
	r.say(Info, step.Restart, "restarting what runs of generation %d", r.new.Number)
	return r.begin(ctx, s.plan(r.old.Plan, r.old.Unsized))
}

// stopped is the refusal to restart an app that does not run.
func (m *Machine) stopped(app string) error {
	remedy := "to start what its .env asks for: app-rollout run " + app
	if _, err := os.Lstat(m.Layout.Env(app)); errors.Is(err, fs.ErrNotExist) {
		remedy = "put its .env back at " + units.EnvPath(app) + ", then: app-rollout run " + app
	}
	return told(app+" is stopped: there is nothing to restart", remedy)
}

// takeOver commits a restart: from here on the new instances are those of the
// generation. That stands in /run, because a reboot starts the generation anew.
func (r *rollout) takeOver() error {
	if !r.inPlace() {
		given, err := r.store.Instances()
		if err != nil {
			return err
		}
		given.Generations[r.new.Number] = numbers(r.fresh)
		if err := r.store.SaveInstances(given); err != nil {
			return err
		}
	}
	r.say(Info, step.Commit, "%s are generation %d now", list(r.fresh), r.new.Number)
	return nil
}

// tookOver reports whether the restart is committed. The one service of mode 0 has
// nothing to go back to, so it does not matter there.
func (r *rollout) tookOver() (bool, error) {
	given, err := r.store.Instances()
	return !r.inPlace() && slices.Equal(given.Generations[r.new.Number], numbers(r.fresh)), err
}

func numbers(names []string) (all []int) {
	for _, name := range names {
		if i, ok := units.ParseInstance(name); ok {
			all = append(all, i.Number)
		}
	}
	return all
}

// keep puts the receipt where it belongs: a restart leaves that of the generation's
// rollout alone.
func (r *rollout) keep() {
	if r.restart {
		r.new.Restart = r.receipt
	} else {
		r.new.Rollout = r.receipt
	}
}
