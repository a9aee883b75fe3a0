package rollout

import (
	"context"
	"errors"
	"os"
	"slices"

	"app-rollout/rollout-helper/systemd"
	"app-rollout/units"
	"app-rollout/units/store"
)

// forget removes what only the rollout needed.
func (r *rollout) forget(ctx context.Context) error {
	return r.tidy(ctx, r.new, r.candidate())
}

// tidy leaves only the units of one generation behind, and the record of them. It ends
// the steering, balances what is to be balanced, and removes the unit files of all others, then the generations that
// nothing needs.
//
// A unit that could not be stopped keeps its file, or a reload would turn it into one
// of another generation. Steering stays, so that the unit gets no connections, and so
// does the generation that it runs. What tells its clients to close goes. The next run
// puts that right.
func (m *Machine) tidy(ctx context.Context, app string, g *store.Generation, names []string) error {
	ctx = context.WithoutCancel(ctx)
	all, err := m.refresh(ctx, app)
	if err != nil {
		return err
	}
	strays := without(live(all), names)
	var wrong []error
	if len(strays) == 0 {
		wrong = append(wrong, m.settleAndSay(app, g, all))
	} else {
		wrong = append(wrong, m.Traffic.EndTell(app))
	}
	// If this fails, the rest goes on: what was recorded when the units got their
	// numbers is still true.
	wrong = append(wrong, m.remember(app, g, names))
	files, err := m.unitFiles(app)
	wrong = append(wrong, err)
	own := slices.DeleteFunc(slices.Clone(files), func(f string) bool { return !slices.Contains(names, f) })
	for _, name := range without(without(files, strays), own) {
		wrong = append(wrong, os.Remove(m.Layout.UnitFile(name)))
	}
	reload := m.needsReload(app, g, all, names)
	if g != nil {
		changed, err := m.writeUnits(app, g.Number, own)
		wrong = append(wrong, err)
		reload = reload || changed
	}
	if reload {
		wrong = append(wrong, m.unload(ctx, app))
	}
	if len(strays) == 0 {
		wrong = append(wrong, store.Of(m.Layout, app).Prune())
	}
	return errors.Join(wrong...)
}

func (r *rollout) tidy(ctx context.Context, g *store.Generation, names []string) error {
	return r.Machine.tidy(ctx, r.app, g, names)
}

// needsReload reports whether systemd has to read the units of an app anew:
//   - a unit that serves is loaded from another generation than its own, as after
//     scaling;
//   - a unit that is gone would be started again, since the boot's target still wants
//     it;
//   - the generator's unit is still there of an app that is gone, or of its other mode.
//
// What rollouts have started is wanted by nobody, so a reload is rare. It blocks PID 1
// for longer the more units the machine has.
//
// An app that has never been ready and is still asked for keeps what the generator makes
// of its .env, so that a failed first rollout needs no reload.
func (m *Machine) needsReload(app string, g *store.Generation, all []systemd.Unit, names []string) bool {
	if g == nil && len(names) == 0 && m.asked(app) {
		return false
	}
	for _, unit := range []string{units.Service(app), units.Template(app)} {
		if g != nil && unit == g.Unit(app) || g == nil && len(names) > 0 {
			continue // it is the unit of a generation that serves
		}
		if _, err := os.Lstat(m.Layout.Path(units.GeneratorDir + "/" + unit)); err == nil {
			return true
		}
	}
	return slices.ContainsFunc(all, func(u systemd.Unit) bool {
		if u.Load != "loaded" {
			return false
		}
		if slices.Contains(names, u.Name) {
			return g != nil && u.Source != units.SourcePath(app, g.Number)
		}
		return slices.Contains(u.WantedBy, units.Target)
	})
}

// remember records the instances that serve, as those of the only generation; g is nil
// if their generation is not known.
func (m *Machine) remember(app string, g *store.Generation, names []string) error {
	disk := store.Of(m.Layout, app)
	given, err := disk.Instances()
	if err != nil {
		return err
	}
	return disk.SaveInstances(remembered(given, g, names))
}

// remembered is the record that remember writes.
func remembered(given store.Instances, g *store.Generation, names []string) store.Instances {
	given.Generations, given.Shifted, given.Serving = map[int][]int{}, 0, []int{}
	for _, name := range names {
		if i, ok := units.ParseInstance(name); ok {
			given.Serving = append(given.Serving, i.Number)
			given.Next = max(given.Next, i.Number+1)
		}
	}
	if g != nil {
		given.Generations[g.Number] = given.Serving
	}
	return given
}
