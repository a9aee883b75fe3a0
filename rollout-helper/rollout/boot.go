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

// Boot takes over what the boot has started: the generation that last worked. Then it
// rolls out what the .env asks for, unless that is the same generation or has failed
// before.
func (m *Machine) Boot(ctx context.Context, app string) error {
	return m.locked(ctx, app, "", func() error { return m.boot(ctx, app) })
}

func (m *Machine) boot(ctx context.Context, app string) error {
	if err := m.recover(ctx, app); err != nil {
		m.Report(warning(app, step.Recover, err))
	}
	if known, err := m.knownThisBoot(ctx, app); err != nil || known {
		return err
	}
	spec, unread := m.Layout.Read(app)
	if errors.Is(unread, fs.ErrNotExist) {
		return m.remove(ctx, app)
	}
	if shadows := m.Layout.Shadows(app); shadows != nil {
		return m.bootShadowed(ctx, app, shadows)
	}
	// A bad .env does not keep us from taking over what last worked.
	current, unready, err := m.adopt(ctx, app)
	if err != nil {
		return err
	}
	if current.Held() {
		m.Report(heldEvent(app, current))
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

// knownThisBoot reports whether the app was taken over or rolled out since the boot.
// Then there is nothing to do: whoever starts multi-user.target on a running machine
// starts the service of the boot too, and does not mean to deploy.
func (m *Machine) knownThisBoot(ctx context.Context, app string) (bool, error) {
	current, err := store.Of(m.Layout, app).Current()
	if err != nil || current == nil {
		return false, err
	}
	i, err := store.Of(m.Layout, app).Instances()
	if err != nil || len(i.Generations[current.Number]) == 0 {
		return false, err
	}
	all, err := m.refresh(ctx, app)
	return len(live(all)) > 0, err
}

// stay says why an app stays on its current generation, "" if it does not.
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

// reloading is how long a daemon-reload may take. Meanwhile systemd removes the output
// of the generators, and they make it anew.
const reloading = 30 * time.Second

// frozen copies into the store what the generator froze for an app that was never
// ready. It is nil if the generator froze nothing. If instances run, it has frozen
// something. Then a missing or incomplete directory means that a daemon-reload is under
// way, and frozen waits for its end.
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

// adopt waits until the instances that the boot has started are ready, and records
// their generation if none is recorded. unready is why they did not become ready. All
// are nil if no generation is recorded and nothing was booted.
func (m *Machine) adopt(ctx context.Context, app string) (current *store.Generation, unready, err error) {
	disk := store.Of(m.Layout, app)
	if current, err = disk.Current(); err != nil {
		return nil, nil, err
	}
	all, err := m.refresh(ctx, app)
	if err != nil {
		return nil, nil, err
	}
	g, running := current, live(all)
	if g == nil {
		g, err = m.frozen(ctx, disk, app, len(running) > 0)
	} else {
		running, err = m.expel(ctx, g, all)
	}
	if g == nil || err != nil {
		return nil, nil, err
	}
	names, err := bootUnits(disk, g, running)
	if err != nil {
		return nil, nil, err
	}
	r := &rollout{
		Machine: m, app: app, store: disk, new: g, fresh: names, began: time.Now(), patient: true, turn: over,
		receipt: store.NewReceipt(Steered),
	}
	if len(running) == 0 {
		// When the generator ran, /var was not mounted yet.
		if err := m.reread(ctx, app); err != nil {
			return nil, nil, err
		}
		give, err := m.batch.turn(ctx, app, r.cpus())
		if err != nil {
			return nil, nil, err
		}
		defer r.attend(ctx, give)()
		r.began = time.Now()
		if unready = r.start(ctx); unready == nil && current != nil {
			unready = r.checkRecorded(ctx)
		}
		if unready != nil {
			return current, unready, nil
		}
	}
	m.batch.pass(app)
	defer m.batch.work()()
	if unready = r.ready(ctx); unready == nil && current == nil {
		// As in a rollout, a generation is recorded as ready only after it was watched.
		unready = r.watch(ctx)
	}
	if err := errors.Join(m.Traffic.Release(app, all), m.remember(app, g, names)); err != nil {
		return nil, nil, err
	}
	if unready != nil || current != nil {
		return current, unready, nil
	}
	return g, nil, r.commitBooted(ctx)
}

// bootUnits are the units that the boot starts for a generation: those that run or, if it
// has started none, those that it was to start.
func bootUnits(disk store.Store, g *store.Generation, running []string) ([]string, error) {
	if len(running) > 0 {
		return running, nil
	}
	given, err := disk.Instances()
	if err != nil {
		return nil, err
	}
	numbers := given.Generations[g.Number]
	if len(numbers) == 0 {
		numbers = g.Booted()
	}
	return g.Instances(g.App, numbers), nil
}

// commitBooted makes the generation that the boot has started the current one.
func (r *rollout) commitBooted(ctx context.Context) error {
	r.receipt.Result = "ready"
	r.silence()
	r.new.Rollout = r.receipt
	if err := r.store.Commit(r.new); err != nil {
		return err
	}
	r.say(Info, step.Boot, "generation %d is what the boot has started", r.new.Number)
	// Then the generator emits the recorded generation.
	return r.unload(ctx, r.app)
}
