package rollout

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"app-rollout/rollout-helper/systemd"
	"app-rollout/units"
)

// hurry is how long what is in hand may still take when the run is to end at
// once: most requests are much shorter, and whoever stops a service waits that
// long without noticing.
const hurry = time.Second

// drained waits until the units have nothing in hand any more: no connection
// half-open or queued, and no request unanswered; or until the limit has
// passed. Only where traffic is steered are they cut off from new connections,
// so that there is an end to wait for.
func (r *rollout) drained(ctx context.Context, names, serving []string, limit time.Duration) error {
	if len(names) == 0 || r.record.Rung != Steered {
		return nil
	}
	began, deadline := time.Now(), time.Now().Add(limit)
	first, last := -1, 0
	defer func() {
		r.record.Cut += last
		r.record.Drained += max(first-last, 0)
	}()
	var us []systemd.Unit
	for {
		if ctx.Err() != nil && deadline.After(time.Now().Add(hurry)) {
			deadline = time.Now().Add(hurry)
		}
		n := 0
		var err error
		us, err = r.Systemd.Again(context.WithoutCancel(ctx), us, slices.Concat(names, serving)...)
		if err == nil {
			n, err = r.inHand(us, names)
		}
		if r.record.Rung != Steered {
			return nil
		}
		if err != nil {
			// What they have in hand is not known: they get the time for it.
			if time.Now().After(deadline) {
				return err
			}
			wait(context.WithoutCancel(ctx), drainTick)
			continue
		}
		if last = n; first < 0 {
			first = last
			if last > 0 {
				r.say(Info, "drain", "waiting for %d connection(s) of %s, for %.0f s at most", last, list(names), limit.Seconds())
			}
		}
		if last == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			r.say(Warning, "drain", "%d connection(s) of %s are cut after %.0f s", last, list(names), time.Since(began).Seconds())
			return nil
		}
		wait(context.WithoutCancel(ctx), drainTick)
	}
}

// inHand counts what the named ones of the units still have in hand, and sees to
// it that nothing is added: the others serve.
func (r *rollout) inHand(us []systemd.Unit, names []string) (int, error) {
	serving, old := split(us, names)
	if err := r.lead(serving, nil); err != nil {
		return 0, err
	}
	return r.Traffic.Pending(r.app, old)
}

// end stops units, each within the limit, and lets systemd forget that they
// failed. It is not cut short by the context: a stop under way is systemd's own.
func (m *Machine) end(ctx context.Context, names []string, limit time.Duration) error {
	errs := make([]error, len(names))
	paced(len(names), half(), stopSlot, func(i int) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
		defer cancel()
		errs[i] = m.endOne(ctx, names[i])
	})
	return errors.Join(errs...)
}

func (m *Machine) endOne(ctx context.Context, name string) error {
	u, err := m.unit(ctx, name)
	if err != nil {
		return err
	}
	if u.Live() {
		result, err := m.Systemd.Stop(ctx, name)
		if err != nil {
			return fmt.Errorf("%s could not be stopped: %w", name, err)
		}
		if u, err = m.unit(ctx, name); err != nil {
			return err
		}
		if u.Live() {
			return fmt.Errorf("%s was to be stopped (%s) but is %s; stop it: systemctl stop %s", name, result, u.Active, name)
		}
	}
	return m.Systemd.ResetFailed(ctx, name)
}

// tidy leaves nothing behind but the units of a generation and what is
// remembered of them: steering ends, the unit files of all others go, and then
// the generations that nothing needs.
//
// As long as a unit is left that could not be stopped, it keeps its file, for
// without one it would become new; it gets no connections, so steering stays;
// and what it was started from stays too. The next run takes all that up.
func (m *Machine) tidy(ctx context.Context, app string, g *units.Generation, names []string) error {
	ctx = context.WithoutCancel(ctx)
	all, err := m.ours(ctx, app)
	if err != nil {
		return err
	}
	strays := without(live(all), names)
	var wrong []error
	if len(strays) == 0 {
		wrong = append(wrong, m.Traffic.Release(app, all))
	}
	// That it cannot be written down keeps nothing else: what was written when
	// the units got their numbers is still true.
	wrong = append(wrong, m.remember(app, g, names))
	files, err := m.unitFiles(app)
	wrong = append(wrong, err)
	own := slices.DeleteFunc(slices.Clone(files), func(f string) bool { return !slices.Contains(names, f) })
	for _, name := range without(without(files, strays), own) {
		wrong = append(wrong, os.Remove(m.Layout.UnitFile(name)))
	}
	reload := m.outdated(app, g, all, names)
	if g != nil {
		changed, err := m.pin(app, g.Number, own)
		wrong = append(wrong, err)
		reload = reload || changed
	}
	if reload {
		wrong = append(wrong, m.Systemd.Reload(ctx))
	}
	if len(strays) == 0 {
		wrong = append(wrong, m.Layout.Store(app).Prune())
	}
	return errors.Join(wrong...)
}

// outdated says whether systemd has to read the units of an app anew: it has one
// loaded from another generation than the one it belongs to, as after scaling;
// or what is gone would be started again, since the boot's target still wants
// it, or the generator's unit of an app that is gone, or of its other mode, is
// still there. What rollouts have started is wanted by nobody, so that a
// daemon-reload, which holds up PID 1 and grows with the machine's units, is rare.
func (m *Machine) outdated(app string, g *units.Generation, all []systemd.Unit, names []string) bool {
	for _, unit := range []string{units.Instance(app, 0), units.Template(app)} {
		if g != nil && unit == g.Unit(app) || g == nil && len(names) > 0 {
			continue // it may be needed
		}
		if _, err := os.Lstat(m.Layout.Path(generatorDir + "/" + unit)); err == nil {
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

func (r *rollout) tidy(ctx context.Context, g *units.Generation, names []string) error {
	return r.Machine.tidy(ctx, r.app, g, names)
}

// remember writes down which instances serve, and that they make up the only
// generation there is; nil if nobody knows which.
func (m *Machine) remember(app string, g *units.Generation, names []string) error {
	i, err := m.Layout.Instances(app)
	if err != nil {
		return err
	}
	clear(i.Generations)
	i.Shifted, i.Serving = 0, []int{}
	for _, name := range names {
		if n, ok := number(app, name); ok {
			i.Serving = append(i.Serving, n)
			i.Next = max(i.Next, n+1)
		}
	}
	if g != nil {
		i.Generations[g.Number] = i.Serving
	}
	return m.Layout.SaveInstances(app, i)
}
