package rollout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"app-rollout/units/step"
	"app-rollout/units/store"
)

// heldEvent is what a run for all says of an app that a person rolled back.
func heldEvent(app string, current *store.Generation) Event {
	return Event{
		App: app, Generation: current.Number, Step: step.Held,
		Text:   fmt.Sprintf("is held on generation %d, which was rolled back to", current.Number),
		Remedy: "app-rollout run " + app + " ends the hold",
	}
}

// Deploy is what a run for all does with an app: a Swap, unless the app is held. A held
// app whose .env is gone is stopped all the same, because that is how a person stops an
// app.
func (m *Machine) Deploy(ctx context.Context, app string) error {
	return m.locked(ctx, app, "", func() error { return m.deploy(ctx, app) })
}

func (m *Machine) deploy(ctx context.Context, app string) error {
	current, err := store.Of(m.Layout, app).Current()
	if err != nil {
		return err
	}
	if _, err := os.Lstat(m.Layout.Env(app)); current.Held() && !errors.Is(err, fs.ErrNotExist) {
		m.Report(heldEvent(app, current))
		return m.recover(ctx, app)
	}
	if current == nil {
		if err := m.yields(app); err != nil {
			return err
		}
	}
	return m.swap(ctx, app)
}

// noteFailed notes what this run need not try again.
func (m *Machine) noteFailed(app, digest string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed == nil {
		m.failed = make(map[string]string)
	}
	m.failed[app] = digest
}

// Changed are the apps whose .env asks for something that does not run and has not
// failed before. What cannot be read, or would be refused, is left out: the run has
// reported it.
func (m *Machine) Changed(ctx context.Context) ([]string, error) {
	apps, _, err := m.Apps()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(apps, func(app string) bool {
		spec, err := m.Layout.Read(app)
		if err != nil {
			return true
		}
		current, err := store.Of(m.Layout, app).Current()
		if err != nil {
			return true
		}
		rejected, err := store.Of(m.Layout, app).Rejected()
		if err != nil || rejected != nil && rejected.Digest == spec.Digest() {
			return true
		}
		m.mu.Lock()
		failed := m.failed[app] == spec.Digest()
		m.mu.Unlock()
		if failed || current.Held() || current != nil && current.Digest == spec.Digest() {
			return true
		}
		_, refusal := m.Plan(ctx, app)
		return refusal != nil
	}), nil
}
