package rollout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"app-rollout/rollout-helper/systemd"
	"app-rollout/units"
	"app-rollout/units/step"
	"app-rollout/units/store"
)

// Swap rolls an app out as its .env asks, whether or not anything in it has
// changed, since the code may have. An edit that is made meanwhile is rolled
// out too. An app whose .env is gone is stopped. A hold ends, for it holds only
// as long as its generation is the current one.
func (m *Machine) Swap(ctx context.Context, app string) error {
	return m.locked(ctx, app, "app-rollout run "+app, func() error { return m.swap(ctx, app) })
}

func (m *Machine) swap(ctx context.Context, app string) error {
	if err := m.recover(ctx, app); err != nil {
		m.Report(warning(app, step.Recover, err))
	}
	spec, err := m.Layout.Read(app)
	if errors.Is(err, fs.ErrNotExist) {
		return m.remove(ctx, app)
	}
	if err != nil {
		return err
	}
	return m.swapTo(ctx, app, spec)
}

// mostAgain bounds how often one run follows a .env that is changed again and
// again.
const mostAgain = 10

// swapTo rolls out what the .env asked for when it was read, and once more as
// long as that has changed meanwhile: a start of the service while it runs is
// merged into the run by systemd, so what was asked for by it is done here.
func (m *Machine) swapTo(ctx context.Context, app string, spec *units.Spec) error {
	for range mostAgain {
		if err := m.rollout(ctx, app, spec); err != nil {
			return err
		}
		again, err := m.Layout.Read(app)
		if errors.Is(err, fs.ErrNotExist) {
			// Some tools write a file anew by removing it first.
			wait(ctx, tick)
			if again, err = m.Layout.Read(app); errors.Is(err, fs.ErrNotExist) {
				return m.remove(ctx, app)
			}
		}
		if err != nil {
			m.Report(Event{App: app, Step: step.Again, Text: "the .env was changed during the rollout"})
			return err
		}
		if again.Digest() == spec.Digest() {
			return nil
		}
		m.Report(Event{App: app, Step: step.Again, Text: "the .env was changed during the rollout"})
		spec = again
	}
	return told(fmt.Sprintf("the .env was changed during each of %d rollouts, and asks for something else again", mostAgain),
		"when it is at rest: app-rollout run "+app)
}

// rollout freezes what the .env asks for and replaces by it what runs.
func (m *Machine) rollout(ctx context.Context, app string, spec *units.Spec) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	disk := store.Of(m.Layout, app)
	old, err := disk.Current()
	if err != nil {
		return err
	}
	all, err := m.ours(ctx, app)
	if err != nil {
		return err
	}
	r := &rollout{Machine: m, app: app, store: disk, old: old, was: live(all)}
	if refusal := r.agree(spec.Plan); refusal != nil {
		refusal.Path = spec.Source.Path
		return refusal
	}
	if r.new, err = disk.Freeze(spec, time.Now()); err != nil {
		return err
	}
	return r.begin(ctx, all)
}

// begin starts the rollout of a generation that is frozen.
func (r *rollout) begin(ctx context.Context, all []systemd.Unit) error {
	if r.inPlace() {
		r.fresh = r.was
		r.say(Info, step.Freeze, "generation %d is frozen", r.new.Number)
		return r.run(ctx)
	}
	err := r.number(ctx, all)
	if err == nil {
		return r.run(ctx)
	}
	// Nothing was touched but files of our own.
	if e := r.tidy(ctx, r.old, r.was); e != nil {
		r.warn(step.Back, e)
	}
	return err
}

// agree refuses what cannot share the port, or the unit's name, with what runs,
// before anything is touched.
func (r *rollout) agree(plan units.Plan) *RunError {
	service := units.Instance(r.app, 0)
	if plan.Mode == 0 && len(r.was) > 1 && slices.Contains(r.was, service) {
		others := list(without(r.was, []string{service}))
		return told(fmt.Sprintf("%s run beside %s, which would be restarted", others, list([]string{service})),
			fmt.Sprintf("stop them (systemctl stop %s), then: %s", others, r.again()))
	}
	if r.old == nil || len(r.was) == 0 || (r.old.Mode == 0 && plan.Mode == 0) {
		return nil
	}
	what := ""
	switch {
	case r.old.User != plan.User:
		what = fmt.Sprintf("is to run as user %s, but runs as %s, and two users cannot share a port", plan.User, r.old.User)
	case r.old.Port != 0 && plan.Port != 0 && r.old.Port != plan.Port:
		what = fmt.Sprintf("is to listen on port %d, but listens on %d, where its clients are", plan.Port, r.old.Port)
	default:
		return nil
	}
	return told("the app "+what,
		fmt.Sprintf("stop it (systemctl stop %s), then: %s", r.stoppable(), r.again()))
}

// number gives the new generation its instances, and these their unit files.
// Only if the number of nodes is all that changed, instances are kept.
func (r *rollout) number(ctx context.Context, all []systemd.Unit) error {
	i, err := r.store.Instances()
	if err != nil {
		return err
	}
	// Systemd may have any number loaded that it was ever asked about. At the
	// very first start the loaded ones are those that the boot would start: they
	// were never run, so they are taken, and systemd reads them anew.
	first := len(r.was) == 0 && i.Next == 1
	// A store that was lost gives its numbers out again.
	delete(i.Generations, r.new.Number)
	if !first {
		for _, u := range all {
			n, _ := number(r.app, u.Name)
			i.Next = max(i.Next, n+1)
		}
	}
	if r.new.Mode == 0 {
		i.Generations[r.new.Number] = []int{0}
		r.fresh = []string{units.Instance(r.app, 0)}
	} else {
		r.kept = r.keep(all)
		for _, name := range r.kept {
			n, _ := number(r.app, name)
			i.Generations[r.new.Number] = append(i.Generations[r.new.Number], n)
		}
		numbers := i.Take(r.new.Number, r.new.Nodes-len(r.kept))
		r.fresh = r.new.Instances(r.app, numbers[len(r.kept):])
	}
	i.Shifted = 0
	if err := r.store.SaveInstances(i); err != nil {
		return err
	}
	if err := r.pin(r.new.Number, r.fresh); err != nil {
		return err
	}
	r.say(Info, step.Freeze, "generation %d is frozen", r.new.Number)
	if first || r.new.Mode == 0 {
		return r.Systemd.Reload(ctx)
	}
	return nil
}

// keep are the running instances that a generation of another size goes on
// with.
func (r *rollout) keep(all []systemd.Unit) []string {
	if r.old == nil || r.old.Mode != 1 || r.old.Nodes == r.new.Nodes || r.old.Unsized != r.new.Unsized || len(r.was) != r.old.Nodes {
		return nil
	}
	// One that is not well is no good beginning.
	if slices.ContainsFunc(all, func(u systemd.Unit) bool { return u.Live() && !u.Up() }) {
		return nil
	}
	return r.was[:min(r.old.Nodes, r.new.Nodes)]
}

// remove stops an app whose .env is gone, with the care that it had.
func (m *Machine) remove(ctx context.Context, app string) error {
	disk := store.Of(m.Layout, app)
	old, err := disk.Current()
	if err != nil {
		return err
	}
	all, err := m.ours(ctx, app)
	if err != nil {
		return err
	}
	// Units of that name which were never rolled out by us are not ours.
	i, err := disk.Instances()
	if err != nil {
		return err
	}
	if old == nil && len(i.Generations) == 0 && len(i.Serving) == 0 {
		return nil
	}
	names := live(all)
	if len(names) > 0 {
		m.Report(Event{App: app, Step: step.Stop, Text: "its .env is gone: stopping " + list(names)})
		limit := stopGrace
		if old != nil {
			limit += seconds(old.TimeoutStopSec)
		}
		if err := m.end(ctx, names, limit); err != nil {
			return err
		}
	}
	return m.tidy(ctx, app, nil, nil)
}
