package rollout

import (
	"context"
	"fmt"
	"slices"

	"app-rollout/units/step"
	"app-rollout/units/store"
)

// Rollback rolls out an earlier generation again, with all that was frozen, and holds
// the app on it: neither a boot nor a run for all replaces it.
func (m *Machine) Rollback(ctx context.Context, app string) error {
	return m.locked(ctx, app, "app-rollout rollback "+app, func() error { return m.goBack(ctx, app) })
}

func (m *Machine) goBack(ctx context.Context, app string) error {
	if err := m.recover(ctx, app); err != nil {
		m.Report(warning(app, step.Recover, err))
	}
	disk := store.Of(m.Layout, app)
	current, err := disk.Current()
	if err != nil {
		return err
	}
	if current == nil {
		return told(app+" has never been ready: there is nothing to roll back to",
			"to roll out what its .env asks for: app-rollout run "+app)
	}
	earlier, err := before(disk, current)
	if err != nil {
		return err
	}
	if earlier == nil {
		return told("no generation of "+app+" is kept that was ready before this one: there is nothing to roll back to",
			"let its .env ask for what is to serve, then: app-rollout run "+app)
	}
	m.Report(Event{App: app, Generation: earlier.Number, Step: step.Rollback, Text: fmt.Sprintf("rolling back from generation %d to what generation %d was", current.Number, earlier.Number)})
	r, s, err := m.newRollout(ctx, app)
	if err != nil {
		return err
	}
	r.rollback = true
	if refusal := s.refusal(earlier.Plan, r.again()); refusal != nil {
		refusal.Text = fmt.Sprintf("generation %d: %s", earlier.Number, refusal.Text)
		return refusal
	}
	if r.new, err = r.store.Copy(earlier); err != nil {
		return err
	}
	return r.begin(ctx, s.plan(earlier.Plan, earlier.Unsized))
}

// before is the newest generation that was ready before the current one and differs
// from it, nil if none is kept. If a person rolled back to the current one, it is older
// than what that was: to roll back twice goes back two generations.
func before(disk store.Store, current *store.Generation) (*store.Generation, error) {
	numbers, err := disk.Generations()
	if err != nil {
		return nil, err
	}
	limit := current.Number
	if current.Held() {
		limit = current.CopyOf
	}
	for _, n := range slices.Backward(numbers) {
		if n >= limit {
			continue
		}
		g, err := disk.Generation(n)
		if err != nil || !g.Ready || g.Digest == current.Digest {
			continue
		}
		return g, nil
	}
	return nil, nil
}
