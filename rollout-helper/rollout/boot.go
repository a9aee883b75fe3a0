package rollout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"app-rollout/units"
	"app-rollout/units/step"
	"app-rollout/units/store"
)

// Boot takes over what the boot has started, and then rolls out what is asked:
// the app is up on the generation that last worked, and goes to what its .env
// says only if that is neither this generation nor one that failed already.
func (m *Machine) Boot(ctx context.Context, app string) error {
	return m.locked(ctx, app, "app-rollout run "+app, func() error { return m.boot(ctx, app) })
}

func (m *Machine) boot(ctx context.Context, app string) error {
	if err := m.recover(ctx, app); err != nil {
		m.Report(warning(app, step.Recover, err))
	}
	if taken, err := m.taken(ctx, app); err != nil || taken {
		return err
	}
	spec, unread := m.Layout.Read(app)
	if errors.Is(unread, fs.ErrNotExist) {
		return m.remove(ctx, app)
	}
	// What last worked is taken over whatever the .env is like now.
	current, unready, err := m.adopt(ctx, app)
	if err != nil {
		return err
	}
	if current.Held() {
		m.Report(held(app, current))
		return unready
	}
	if unread != nil {
		return errors.Join(unready, unread)
	}
	if unready != nil {
		m.Report(warning(app, step.Boot, unready))
	} else if current != nil {
		if stay := m.stay(app, current, spec); stay != "" {
			m.Report(Event{App: app, Generation: current.Number, Step: step.Boot, Text: stay})
			return nil
		}
	}
	return m.swapTo(ctx, app, spec)
}

// taken says whether the app's instances of this boot are known already: it was
// taken over, or rolled out, since. A start of multi-user.target starts the
// service of the boot too, on a machine where the package has just been
// installed, and is no deploy.
func (m *Machine) taken(ctx context.Context, app string) (bool, error) {
	current, err := store.Of(m.Layout, app).Current()
	if err != nil || current == nil {
		return false, err
	}
	i, err := store.Of(m.Layout, app).Instances()
	if err != nil || len(i.Generations[current.Number]) == 0 {
		return false, err
	}
	all, err := m.ours(ctx, app)
	return len(live(all)) > 0, err
}

// stay says why an app is left on its current generation, "" if it is not.
func (m *Machine) stay(app string, current *store.Generation, spec *units.Spec) string {
	if current.Digest == spec.Digest() {
		return fmt.Sprintf("generation %d is up", current.Number)
	}
	if rejected, err := store.Of(m.Layout, app).Rejected(); err == nil && rejected != nil && rejected.Digest == spec.Digest() {
		return fmt.Sprintf("generation %d is up; what the .env asks for failed before (generation %d) and is not tried again by itself: app-rollout run %s tries it",
			current.Number, rejected.Number, app)
	}
	return ""
}

// reloading is how long a daemon-reload may take, in which the generators'
// output is removed and made anew.
const reloading = 30 * time.Second

// frozen copies into the store what the generator froze for an app that was
// never ready; nil if it froze nothing. Where instances run, it did: that it is
// not there, or not whole, is a daemon-reload of somebody else's, or of another
// app's rollout.
func (m *Machine) frozen(ctx context.Context, disk store.Store, app string, running bool) (*store.Generation, error) {
	inside := units.FirstGeneration(units.GeneratorDir, app)
	for deadline := time.Now().Add(reloading); ; wait(ctx, tick) {
		g, err := disk.Adopt(m.Layout.Path(inside), inside)
		if err == nil {
			return g, nil
		}
		gone := errors.Is(err, fs.ErrNotExist)
		if gone && !running {
			return nil, nil
		}
		var part *units.Problem
		if !gone && !errors.As(err, &part) || ctx.Err() != nil || time.Now().After(deadline) {
			return nil, err
		}
	}
}

// adopt waits until the instances that the boot has started are ready, and
// records them if that was not done before. Without a recorded generation, and
// with nothing booted, there is nothing to adopt.
func (m *Machine) adopt(ctx context.Context, app string) (current *store.Generation, unready, err error) {
	disk := store.Of(m.Layout, app)
	if current, err = disk.Current(); err != nil {
		return nil, nil, err
	}
	all, err := m.ours(ctx, app)
	if err != nil {
		return nil, nil, err
	}
	g := current
	if g == nil {
		if g, err = m.frozen(ctx, disk, app, len(live(all)) > 0); g == nil || err != nil {
			return nil, nil, err
		}
	}
	names := live(all)
	if len(names) == 0 {
		i, err := disk.Instances()
		if err != nil {
			return nil, nil, err
		}
		numbers := i.Generations[g.Number]
		if len(numbers) == 0 {
			numbers = g.Booted()
		}
		names = g.Instances(app, numbers)
	}
	r := &rollout{
		Machine: m, app: app, store: disk, new: g, fresh: names, began: time.Now(), patient: true,
		record: &store.Receipt{Started: time.Now(), Rung: Steered},
	}
	if len(live(all)) == 0 {
		// The generator found nothing, for /var was not there yet.
		if err := m.Systemd.Reload(ctx); err != nil {
			return nil, nil, err
		}
		if unready = r.start(ctx); unready != nil {
			return current, unready, nil
		}
	}
	if unready = r.ready(ctx); unready == nil && current == nil {
		// What goes on the record as ready has to have held, as in a rollout.
		unready = r.watch(ctx)
	}
	if err := m.Traffic.Release(app, all); err != nil {
		return nil, nil, err
	}
	if err := m.remember(app, g, names); err != nil {
		return nil, nil, err
	}
	if unready != nil || current != nil {
		return current, unready, nil
	}
	r.record.Result = "ready"
	g.Rollout = r.record
	if err := disk.Commit(g); err != nil {
		return nil, nil, err
	}
	m.Report(Event{App: app, Generation: g.Number, Step: step.Boot, Text: fmt.Sprintf("generation %d is what the boot has started", g.Number)})
	// From here on the generator emits the recorded one.
	return g, nil, m.Systemd.Reload(ctx)
}
