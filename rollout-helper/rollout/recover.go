package rollout

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"app-rollout/rollout-helper/systemd"
	"app-rollout/units"
	"app-rollout/units/step"
	"app-rollout/units/store"
)

// Recover puts right what a run has left that was killed: at once, by the unit
// in the service's OnFailure=. If another run has the app already, that one does
// it.
func (m *Machine) Recover(ctx context.Context, app string) error {
	release, err := m.lock(ctx, app, false)
	if errors.Is(err, errBusy) {
		return nil
	}
	if err != nil {
		return err
	}
	defer release()
	if stopping, err := m.Systemd.Stopping(ctx); err != nil || stopping {
		return err
	}
	return complete(rights(m.Layout, m.recover(ctx, app)), m.again(app))
}

// recover makes the current generation the only one, as it must be between two
// rollouts. New connections go to it, whatever else runs is drained and stopped, and
// what is no longer needed is removed.
func (m *Machine) recover(ctx context.Context, app string) error {
	all, err := m.Units(ctx, app)
	if err != nil {
		return err
	}
	s, err := m.situation(ctx, app, all)
	if err != nil {
		return err
	}
	if err := errors.Join(m.forgive(ctx, all, s.mine), m.sweep(app), m.forgetRelease(ctx, app)); err != nil {
		return err
	}
	if !s.unfinished() {
		_, err := m.settle(app, s.current, all) // the last rollout has said why it is not balanced
		return err
	}
	m.Report(Event{App: app, Step: step.Recover, Text: "putting right what an unfinished run has left", Level: Warning})
	disk := store.Of(m.Layout, app)
	r := &rollout{
		Machine: m, app: app, store: disk, old: s.current,
		new:     &store.Generation{App: app, Plan: longest(disk, s.given)},
		receipt: store.NewReceipt(Steered), began: time.Now(), stalls: make(stalls),
		// The one service of mode 0 runs on another unit than its generation's.
		exchanged: s.current != nil && s.current.Mode == 0 && slices.Contains(s.foreign, units.Service(app)),
	}
	r.bounced = r.exchanged // nobody has recorded whether it was restarted
	return r.putRight(ctx, s, all)
}

// putRight stops what an unfinished run has left, and removes what only that run
// needed.
func (r *rollout) putRight(ctx context.Context, s situation, all []systemd.Unit) error {
	// No number of what is loaded is given out again, even if the record of them is lost.
	if next := s.above(s.given.Next); next > s.given.Next {
		s.given.Next = next
		if err := r.store.SaveInstances(s.given); err != nil {
			return err
		}
	}
	var wrong []error
	if s.given.Shifted == 0 {
		// Before the shift all connections are kept with those that serve. So the
		// strays have nothing in hand, and need no drain.
		wrong = append(wrong, r.end(ctx, s.strays, r.stopTime()))
	} else {
		// After the shift the strays may have connections: they are drained.
		wrong = append(wrong,
			r.Traffic.Release(r.app, all),
			r.steerTo(ctx, s.mine),
			r.drained(ctx, without(s.strays, r.deaf(ctx, s.strays)), s.mine, allowanceOf(r.new)),
			r.leave(ctx, s.strays, s.mine))
	}
	known, err := r.reinstate(context.WithoutCancel(ctx))
	if wrong = append(wrong, err); known {
		wrong = append(wrong, r.tidy(ctx, s.current, s.mine))
	}
	return errors.Join(wrong...)
}

// serving are the units that are to serve between two rollouts: those of the current
// generation or, if none is recorded any more, those that the last run left serving.
func (s situation) serving(running, files []string) []string {
	numbers := s.given.Serving
	if s.current != nil {
		if numbers = s.given.Generations[s.current.Number]; len(numbers) == 0 {
			return running
		}
	}
	if s.given.Serving == nil && len(s.given.Generations) == 0 {
		return running // nothing was recorded, or the record is lost
	}
	if len(numbers) == 0 {
		// The first rollout was not finished. Its instances have files of their own;
		// those that the boot has started have none.
		return without(running, files)
	}
	names := make([]string, len(numbers))
	for at, n := range numbers {
		names[at] = units.Instance{App: s.app, Number: n}.Unit()
	}
	return names
}

// foreign are those of the files that belong to no unit that serves, or that hold the
// unit of another generation.
func (m *Machine) foreign(app string, current *store.Generation, files, mine []string) ([]string, error) {
	foreign := without(files, mine)
	if current == nil {
		return foreign, nil
	}
	for _, name := range without(files, foreign) {
		text, err := os.ReadFile(m.Layout.UnitFile(name))
		if err != nil {
			return nil, err
		}
		if !isUnitOf(text, app, current.Number) {
			foreign = append(foreign, name)
		}
	}
	return foreign, nil
}

// longest has the longest times of all generations that are kept. Nobody recorded which
// generation the strays belong to. What else their drain depends on, only those say that
// have instances or, if none is recorded, all.
func longest(disk store.Store, given store.Instances) (p units.Plan) {
	numbers, _ := disk.Generations()
	for _, n := range numbers {
		g, err := disk.Generation(n)
		if err != nil {
			continue
		}
		p.ReadySec = max(p.ReadySec, g.ReadySec)
		p.DrainSec = max(p.DrainSec, g.DrainSec)
		p.TimeoutStopSec = max(p.TimeoutStopSec, g.TimeoutStopSec)
		if _, has := given.Generations[n]; has || len(given.Generations) == 0 {
			p.LeaveKeepalive = p.LeaveKeepalive || g.LeaveKeepalive
			p.DrainClosed = p.DrainClosed || g.DrainClosed
		}
	}
	return p
}

// sweep removes the files that a killed run has not finished writing. Prune does that in
// the store.
func (m *Machine) sweep(app string) error {
	var left []string
	unitFiles := []string{units.Service(app), app + "@*.service", units.ReleaseService(app)}
	patterns := []string{m.Layout.Run(app) + "/*.tmp"}
	for _, name := range unitFiles {
		patterns = append(patterns, m.Layout.UnitFile(name+".tmp"))
	}
	for _, pattern := range patterns {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		left = append(left, found...)
	}
	var wrong []error
	for _, path := range left {
		wrong = append(wrong, os.Remove(path))
	}
	return errors.Join(wrong...)
}

// forgive lets systemd forget the units that failed and are not to serve.
func (m *Machine) forgive(ctx context.Context, all []systemd.Unit, mine []string) error {
	var wrong []error
	for _, u := range all {
		if u.Active == "failed" && !slices.Contains(mine, u.Name) {
			wrong = append(wrong, m.Systemd.ResetFailed(ctx, u.Name))
		}
	}
	return errors.Join(wrong...)
}
