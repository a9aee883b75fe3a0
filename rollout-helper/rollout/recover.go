package rollout

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"time"

	"app-rollout/rollout-helper/systemd"
	"app-rollout/units"
)

// Recover puts right what a run has left that was killed: at once, from the
// service's ExecStopPost=. If another run has the app already, that one does
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
	return m.recover(ctx, app)
}

// recover makes the current generation the only one, as it is to be between
// two rollouts: new connections are led to it, whatever else runs is drained
// and stopped, and what is no longer needed is removed.
func (m *Machine) recover(ctx context.Context, app string) error {
	store := m.Layout.Store(app)
	current, err := store.Current()
	if err != nil {
		return err
	}
	i, err := m.Layout.Instances(app)
	if err != nil {
		return err
	}
	all, err := m.ours(ctx, app)
	if err != nil {
		return err
	}
	files, err := m.unitFiles(app)
	if err != nil {
		return err
	}
	running := live(all)
	// Where nothing is recorded, it is the boot's instances that count: those
	// of an unfinished rollout have files.
	mine := without(running, files)
	if current != nil {
		if numbers := i.Generations[current.Number]; len(numbers) > 0 {
			mine = current.Instances(app, numbers)
		} else {
			mine = running
		}
	}
	strays := without(running, mine)
	if len(strays) == 0 && len(files) == 0 {
		return m.Traffic.Release(app, all)
	}
	m.Report(Event{App: app, Step: "recover", Text: "putting right what an unfinished run has left", Level: Warning})
	r := &rollout{
		Machine: m, app: app, store: store, old: current, new: current,
		record: &units.Record{Rung: Steered}, began: time.Now(),
	}
	if current == nil {
		r.new = &units.Generation{App: app}
	}
	serving, err := m.Systemd.Units(ctx, append(mine, units.Instance(app, 0))...)
	if err != nil {
		return err
	}
	serving = slices.DeleteFunc(serving, func(u systemd.Unit) bool { return !slices.Contains(mine, u.Name) })
	changed, err := r.exchanged(files)
	return errors.Join(
		err,
		r.lead(serving, nil),
		r.drained(ctx, strays, r.limit(current)),
		m.end(ctx, strays, r.stopTime()),
		r.tidy(ctx, current, mine),
		r.reinstate(ctx, changed),
		store.Prune(),
	)
}

// exchanged says whether the one service of mode 0 runs on another unit than
// its current generation's, since a run was cut off in the middle.
func (r *rollout) exchanged(files []string) (bool, error) {
	name := units.Instance(r.app, 0)
	if r.old == nil || r.old.Mode != 0 || !slices.Contains(files, name) {
		return false, nil
	}
	text, err := os.ReadFile(r.Layout.UnitFile(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	frozen, err := r.store.Unit(r.old.Number)
	return !bytes.Equal(text, pinned(frozen)), err
}

// reinstate restarts the one service of mode 0 on its current generation, once
// the file that changed it is gone.
func (r *rollout) reinstate(ctx context.Context, changed bool) error {
	if !changed {
		return nil
	}
	return r.again(context.WithoutCancel(ctx), r.stopTime()+seconds(r.new.ReadySec))
}
