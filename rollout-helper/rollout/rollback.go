package rollout

import (
	"context"
	"fmt"
	"slices"

	"app-rollout/units"
)

// Rollback rolls out an earlier generation again, with all that was frozen, and
// holds the app on it: neither a boot nor a run for all brings another.
func (m *Machine) Rollback(ctx context.Context, app string) error {
	release, err := m.lock(ctx, app, true)
	if err != nil {
		return err
	}
	defer release()
	if err := m.recover(ctx, app); err != nil {
		m.Report(Event{App: app, Step: "recover", Text: err.Error(), Level: Warning})
	}
	store := m.Layout.Store(app)
	current, err := store.Current()
	if err != nil {
		return err
	}
	if current == nil {
		return fmt.Errorf("%s has never been ready: there is nothing to roll back to", app)
	}
	earlier, err := before(store, current)
	if err != nil {
		return err
	}
	if earlier == nil {
		return fmt.Errorf("no generation of %s is kept that was ready before this one: there is nothing to roll back to", app)
	}
	m.Report(Event{App: app, Generation: earlier.Number, Step: "rollback", Text: fmt.Sprintf("rolling back from generation %d to what generation %d was", current.Number, earlier.Number)})
	all, err := m.ours(ctx, app)
	if err != nil {
		return err
	}
	r := &rollout{Machine: m, app: app, store: store, old: current, was: live(all), rollback: true}
	if err := r.agree(earlier.Plan, fmt.Sprintf("generation %d", earlier.Number)); err != nil {
		return err
	}
	if r.new, err = store.Copy(earlier); err != nil {
		return err
	}
	return r.begin(ctx, all)
}

// before is the newest generation that was ready before the current one and
// differs from it; nil if none is kept. If the current one was rolled back to,
// it is one before that: rolling back twice goes back two, not to and fro.
func before(store units.Store, current *units.Generation) (*units.Generation, error) {
	numbers, err := store.Generations()
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
		g, err := store.Generation(n)
		if err != nil || !g.Ready || g.Digest == current.Digest {
			continue
		}
		return g, nil
	}
	return nil, nil
}
