package rollout

import (
	"context"
	"fmt"
	"slices"

	"app-rollout/units"
)

// heldText is what a run for all says of an app that a person rolled back.
func heldText(app string, current *units.Generation) string {
	return fmt.Sprintf("is held on generation %d, which was rolled back to; app-rollout run %s ends the hold", current.Number, app)
}

// Deploy is the swap of a run for all: it leaves a held app alone.
func (m *Machine) Deploy(ctx context.Context, app string) error {
	release, err := m.lock(ctx, app, true)
	if err != nil {
		return err
	}
	defer release()
	store := m.Layout.Store(app)
	current, err := store.Current()
	if err != nil {
		return err
	}
	held, err := store.Held(current)
	if err != nil {
		return err
	}
	if held {
		m.Report(Event{App: app, Generation: current.Number, Step: "held", Text: heldText(app, current)})
		return m.recover(ctx, app)
	}
	return m.swap(ctx, app)
}

// Rollback rolls out the generation before the current one again, with all
// that was frozen, and holds the app on it: neither a boot nor a run for all
// brings the other one back.
func (m *Machine) Rollback(ctx context.Context, app string) error {
	release, err := m.lock(ctx, app, true)
	if err != nil {
		return err
	}
	defer release()
	if err := m.recover(ctx, app); err != nil {
		return err
	}
	store := m.Layout.Store(app)
	current, err := store.Current()
	if err != nil {
		return err
	}
	if current == nil {
		return fmt.Errorf("%s has never been ready: there is nothing to roll back to", app)
	}
	numbers, err := store.Generations()
	if err != nil {
		return err
	}
	for _, n := range slices.Backward(numbers) {
		g, err := store.Generation(n)
		if err != nil || !g.Ready || n >= current.Number || g.Digest == current.Digest {
			continue
		}
		m.Report(Event{App: app, Generation: n, Step: "rollback", Text: fmt.Sprintf("rolling back from generation %d to what generation %d was", current.Number, n)})
		all, err := m.ours(ctx, app)
		if err != nil {
			return err
		}
		r := &rollout{Machine: m, app: app, store: store, old: current, was: live(all)}
		if r.new, err = store.Copy(n); err != nil {
			return err
		}
		// The hold begins with the commit, for it is a hold only on the
		// generation that is the current one.
		if err := store.Hold(r.new.Number); err != nil {
			return err
		}
		return r.begin(ctx, all)
	}
	return fmt.Errorf("%s has no other generation that was ready: there is nothing to roll back to", app)
}
