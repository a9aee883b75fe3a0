package rollout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"app-rollout/rollout-helper/systemd"
	"app-rollout/units"
	"app-rollout/units/step"
	"app-rollout/units/store"
)

// Origin is the SourcePath= that a unit's process was started with. A daemon-reload may
// have given the unit another one since. systemd has written down which it was; units of
// older versions of this package have no such field, so for them it is the unit's.
func Origin(u systemd.Unit) string {
	from := u.LogFields[units.SourceField]
	if strings.HasPrefix(from, units.GeneratorDir+"/") {
		// A person started what the generator froze, which has no number.
		from = ""
	}
	return cmp.Or(from, u.Source)
}

// Runs reports whether a unit's process was started from the generation, or from one that
// differs from it in nothing but the number of instances. A unit of which that cannot be
// told counts as one that does.
func (m *Machine) Runs(g *store.Generation, u systemd.Unit) bool {
	from := Origin(u)
	n, ok := units.ParseSourcePath(g.App, from)
	if !ok || n == g.Number {
		return ok || from == ""
	}
	other, err := store.Of(m.Layout, g.App).Generation(n)
	return err == nil && other.Mode == g.Mode && other.Unsized == g.Unsized
}

// startedFrom reports whether a unit's process was started from this very generation.
func (r *rollout) startedFrom(g *store.Generation, u systemd.Unit) bool {
	n, ok := units.ParseSourcePath(r.app, Origin(u))
	return ok && n == g.Number
}

// bootShadowed is the boot of an app in whose name there are files that are not ours.
// The recorded generation is taken over, unless one of them keeps it from being started.
// What the .env asks for is not rolled out. In any case the error names the files, and
// what mends it.
func (m *Machine) bootShadowed(ctx context.Context, app string, shadows error) error {
	current, err := store.Of(m.Layout, app).Current()
	if err != nil || current == nil {
		return errors.Join(err, shadows)
	}
	all, err := m.refresh(ctx, app)
	if err != nil {
		return errors.Join(err, shadows)
	}
	if len(live(all)) == 0 && m.barred(current) {
		return shadows
	}
	unready, err := m.adopt(ctx, app, current)
	return errors.Join(unready, err, shadows)
}

// barred reports whether a file keeps the units of a generation from being started: it
// masks one of them, or was installed by somebody else.
func (m *Machine) barred(g *store.Generation) bool {
	names := append(g.Instances(g.App, g.Booted()), g.Unit(g.App))
	return slices.ContainsFunc(m.Layout.ShadowFiles(g.App), func(s units.Shadow) bool {
		return !s.Beaten() && slices.Contains(names, s.Unit)
	})
}

// astray are the units in the name of a recorded generation that run something else: their
// processes were started from another one, or systemd has loaded them from a file that is
// not ours. A generation that differs in nothing but the number of its instances is no
// other one.
func (m *Machine) astray(g *store.Generation, all []systemd.Unit) (astray []systemd.Unit) {
	shadows := m.Layout.ShadowFiles(g.App)
	for _, u := range all {
		i, _ := units.ParseInstance(u.Name)
		if !u.Live() || (i.Number == 0) != (g.Mode == 0) {
			continue
		}
		if !m.Runs(g, u) || slices.ContainsFunc(shadows, func(s units.Shadow) bool { return s.Path == u.Fragment && !s.Masks() }) {
			astray = append(astray, u)
		}
	}
	return astray
}

// expel stops the units that are astray, so that the recorded generation can be started
// instead. It returns what still runs. Seldom is there anything to do, for the generator
// makes systemd prefer our units. But the generator may have failed.
func (m *Machine) expel(ctx context.Context, g *store.Generation, all []systemd.Unit) (running []string, err error) {
	wrong := m.astray(g, all)
	if len(wrong) == 0 {
		return live(all), nil
	}
	m.Report(Event{App: g.App, Generation: g.Number, Step: step.Boot, Level: Warning, Text: runs(g, wrong) + ": that is started instead"})
	names := live(wrong)
	return without(live(all), names), m.end(ctx, names, stopGrace+seconds(g.TimeoutStopSec))
}

// checkRecorded fails, and stops them, if systemd has started units for a recorded
// generation from something else.
func (r *rollout) checkRecorded(ctx context.Context) error {
	all, err := r.refresh(ctx, r.app)
	if err != nil {
		return err
	}
	wrong := r.astray(r.new, all)
	if len(wrong) == 0 {
		return nil
	}
	return errors.Join(told(runs(r.new, wrong)+": they are stopped", "see: app-rollout check "+r.app), r.end(ctx, live(wrong), r.stopTime()))
}

// runs says what units that are astray run, instead of the generation.
func runs(g *store.Generation, astray []systemd.Unit) string {
	var from []string
	for _, u := range astray {
		what := cmp.Or(u.Fragment, Origin(u))
		if n, ok := units.ParseSourcePath(g.App, Origin(u)); ok {
			what = fmt.Sprintf("generation %d (%s)", n, what)
		}
		if !slices.Contains(from, what) {
			from = append(from, what)
		}
	}
	return fmt.Sprintf("%s run %s, not generation %d, which is recorded", list(live(astray)), strings.Join(from, " and "), g.Number)
}

// warnUnshared warns of a mask by which instances cannot share their port.
func (r *rollout) warnUnshared() {
	if !r.new.ReusePort || r.new.Mode == 0 {
		return
	}
	if p := r.Layout.Unshared(); p != nil {
		r.warn(step.Start, p)
	}
}
