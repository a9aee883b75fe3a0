package rollout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"app-rollout/units"
	"app-rollout/units/problem"
	"app-rollout/units/step"
	"app-rollout/units/store"
)

// Swap rolls an app out as its .env asks, even if the .env has not changed, because the
// code may have. An edit that is made meanwhile is rolled out too. An app whose .env is
// gone is stopped. A hold ends, because it lasts as long as its generation is the current
// one.
func (m *Machine) Swap(ctx context.Context, app string) error {
	return m.locked(ctx, app, "", func() error { return m.swap(ctx, app) })
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
	return m.swapTo(ctx, app, spec, nil)
}

// mostAgain bounds how often one run rolls out an .env that changes each time.
const mostAgain = 10

// swapTo rolls out what an .env asks for, and again as long as it has changed meanwhile:
// systemd merges a start of the service into the run that is under way, so this run has
// to do what that start was to do. A boot says what of that it leaves.
func (m *Machine) swapTo(ctx context.Context, app string, spec *units.Spec, leaves func(*units.Spec) *problem.Problem) error {
	for range mostAgain {
		if err := m.rollout(ctx, app, spec); err != nil {
			if now, e := m.Layout.Read(app); e == nil && now.Digest() != spec.Digest() && ctx.Err() == nil {
				m.Report(Event{App: app, Step: step.Again, Level: Warning, Text: "the .env was changed during the rollout; the change is not rolled out"})
			}
			return err
		}
		again, err := m.Layout.Read(app)
		if errors.Is(err, fs.ErrNotExist) {
			// Some tools remove a file before they write it anew.
			wait(ctx, tick)
			if again, err = m.Layout.Read(app); errors.Is(err, fs.ErrNotExist) {
				return m.remove(ctx, app)
			}
		}
		if err != nil {
			return changedBadly(err)
		}
		if again.Digest() == spec.Digest() {
			return nil
		}
		if leaves != nil {
			if left := leaves(again); left != nil {
				m.Report(warning(app, step.Again, left))
				return nil
			}
		}
		m.Report(Event{App: app, Step: step.Again, Text: "the .env was changed during the rollout"})
		spec = again
	}
	return told(fmt.Sprintf("the .env was changed during each of %d rollouts, and asks for something else again", mostAgain),
		"when it is at rest: app-rollout run "+app)
}

// changedBadly is the error of an .env that is bad after the rollout and was not
// before: its remedy must not seem to be about what has just been rolled out.
func changedBadly(err error) error {
	all := problem.Each(err)
	for i, one := range all {
		p := *problem.Of(one)
		p.Text += " (the .env was changed during the rollout, which went well)"
		all[i] = &p
	}
	return errors.Join(all...)
}

// rollout freezes what the .env asks for and replaces by it what runs.
func (m *Machine) rollout(ctx context.Context, app string, spec *units.Spec) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r, s, err := m.newRollout(ctx, app)
	if err != nil {
		return err
	}
	unclaim, refusal := m.admit(s, spec.Plan, r.again())
	if refusal != nil {
		refusal.Path = spec.Source.Path
		return refusal
	}
	defer func() { unclaim() }()
	for _, p := range spec.Idle {
		m.Report(warning(app, step.Freeze, p))
	}
	if r.new, err = r.store.Freeze(spec, time.Now()); err != nil {
		return err
	}
	r.say(Info, step.Freeze, "generation %d is frozen", r.new.Number)
	p := s.plan(spec.Plan, spec.Unsized())
	if len(p.Keep) == 0 && (r.new.ReleaseSec > 0 || m.releaseLeft(app)) {
		unclaim() // no other app is refused the port for as long as a release command may take
		unclaim = func() {}
		if err := r.release(ctx); err != nil {
			return r.unreleased(ctx, err)
		}
		if s, err = r.situationNow(ctx); err != nil {
			return err
		}
		again, refusal := m.admit(s, spec.Plan, r.again())
		if refusal != nil {
			refusal.Path = spec.Source.Path
			return refusal
		}
		unclaim, p = again, s.plan(spec.Plan, spec.Unsized())
	}
	return r.begin(ctx, p)
}

// situationNow looks again after a release command, which may have taken hours.
func (r *rollout) situationNow(ctx context.Context) (situation, error) {
	all, err := r.refresh(ctx, r.app)
	if err != nil {
		return situation{}, err
	}
	s, err := r.situation(ctx, r.app, all)
	r.was = unitNames(s.running())
	return s, err
}

// newRollout is a rollout from what runs now, and the situation that it begins in.
func (m *Machine) newRollout(ctx context.Context, app string) (*rollout, situation, error) {
	if err := m.Layout.Shadows(app); err != nil {
		return nil, situation{}, err
	}
	all, err := m.refresh(ctx, app)
	if err != nil {
		return nil, situation{}, err
	}
	s, err := m.situation(ctx, app, all)
	if err != nil {
		return nil, s, err
	}
	return &rollout{Machine: m, app: app, store: store.Of(m.Layout, app), old: s.current, was: unitNames(s.running()), stalls: make(stalls)}, s, nil
}

// begin carries out the plan for a generation that is frozen.
func (r *rollout) begin(ctx context.Context, p *Plan) error {
	r.kept, r.fresh = unitNames(p.Keep), unitNames(p.Start)
	if p.InPlace {
		return r.run(ctx)
	}
	err := r.assign(ctx, p)
	if err == nil {
		return r.run(ctx)
	}
	// Only files of our own have changed.
	if e := r.tidy(ctx, r.old, r.was); e != nil {
		r.warn(step.Back, e)
	}
	return err
}

// assign gives the new generation its instances, and these their unit files.
func (r *rollout) assign(ctx context.Context, p *Plan) error {
	given, err := r.store.Instances()
	if err != nil {
		return err
	}
	given.Next, given.Shifted = p.next, 0
	// In a restart the old instances are the generation's until the commit. If the store
	// was lost, it gives the numbers of generations out again.
	if !r.restart {
		given.Generations[r.new.Number] = numbers(r.candidate())
	}
	if err := r.store.SaveInstances(given); err != nil {
		return err
	}
	if err := r.writeUnits(r.new.Number, r.fresh); err != nil {
		return err
	}
	if p.reread {
		return r.reread(ctx, r.app)
	}
	return nil
}

// remove stops an app whose .env is gone.
func (m *Machine) remove(ctx context.Context, app string) error {
	m.batch.pass(app)
	all, err := m.refresh(ctx, app)
	if err != nil {
		return err
	}
	s, err := m.situation(ctx, app, all)
	if err != nil || !s.known() {
		return err
	}
	if names := unitNames(s.stop().Stop); len(names) > 0 {
		m.Report(Event{App: app, Step: step.Stop, Text: "its .env is gone: stopping " + list(names)})
		limit := stopGrace
		if s.current != nil {
			limit += seconds(s.current.TimeoutStopSec)
		}
		if err := m.end(ctx, names, limit); err != nil {
			return err
		}
	}
	if m.releaseLeft(app) {
		if err := m.clearRelease(ctx, units.ReleaseService(app)); err != nil {
			return err
		}
	}
	return m.tidy(ctx, app, nil, nil)
}
