package rollout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/systemd"
	"app-rollout/units"
	"app-rollout/units/step"
	"app-rollout/units/store"
)

// Boot takes over what the boot has started: the generation that last worked. Then it
// rolls out what the .env asks for, unless that is the same generation or has failed
// before. An app that was never ready is rolled out when those that were have their
// ports.
func (m *Machine) Boot(ctx context.Context, app string) error {
	if current, err := store.Of(m.Layout, app).Current(); err == nil && current == nil {
		<-m.portsSettled(ctx)
	}
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
	current, err := store.Of(m.Layout, app).Current()
	if err != nil {
		return err
	}
	if current == nil {
		return m.bootFirst(ctx, app, spec, unread)
	}
	// A bad .env does not keep us from taking over what last worked.
	unready, err := m.adopt(ctx, app, current)
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
		if m.rejected(app, spec.Digest()) != nil {
			return unready // what has failed before is no help
		}
		if m.bootLeaves(spec) == nil {
			m.Report(warning(app, step.Boot, unready))
		}
	} else if stay := m.stay(app, current, spec); stay != "" {
		m.Report(Event{App: app, Generation: current.Number, Step: step.Boot, Text: stay})
		return nil
	}
	if left := m.bootLeaves(spec); left != nil {
		if current.Digest != spec.Digest() {
			m.Report(warning(app, step.Boot, left))
		}
		return unready
	}
	return m.swapTo(ctx, app, spec, m.bootLeaves)
}

// bootFirst rolls out an app that was never ready, unless what its .env asks for has
// failed before.
func (m *Machine) bootFirst(ctx context.Context, app string, spec *units.Spec, unread error) error {
	if unread != nil {
		return unread
	}
	if rejected := m.rejected(app, spec.Digest()); rejected != nil {
		return told(fmt.Sprintf("is not started: it was never ready, and what its .env asks for failed before (generation %d)", rejected.Number),
			"app-rollout history "+app+" says why, app-rollout run "+app+" tries it again")
	}
	if left := m.bootLeaves(spec); left != nil {
		return told("is not started: "+left.Text, left.Remedy)
	}
	if err := m.yields(app); err != nil {
		return err
	}
	return m.swapTo(ctx, app, spec, m.bootLeaves)
}

// rejected is the generation of an app that failed last, if it is what a digest stands
// for; else nil.
func (m *Machine) rejected(app, digest string) *store.Generation {
	rejected, err := store.Of(m.Layout, app).Rejected()
	if err != nil || rejected == nil || rejected.Digest != digest {
		return nil
	}
	return rejected
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
	if rejected := m.rejected(app, spec.Digest()); rejected != nil {
		return fmt.Sprintf("generation %d is up; what the .env asks for failed before (generation %d) and is not tried again by itself: app-rollout run %s tries it",
			current.Number, rejected.Number, app)
	}
	return ""
}

// adopt waits until the instances that the boot has started of the current generation
// are ready. unready is why they did not become ready.
func (m *Machine) adopt(ctx context.Context, app string, current *store.Generation) (unready, err error) {
	disk := store.Of(m.Layout, app)
	all, err := m.refresh(ctx, app)
	if err != nil {
		return nil, err
	}
	running, err := m.expel(ctx, current, all)
	if err != nil {
		return nil, err
	}
	names, err := bootUnits(disk, current, running)
	if err != nil {
		return nil, err
	}
	r := &rollout{
		Machine: m, app: app, store: disk, new: current, fresh: names, began: time.Now(), patient: true, turn: over,
		receipt: store.NewReceipt(Steered),
	}
	if len(running) == 0 {
		// When the generator ran, /var was not mounted yet.
		if err := m.reread(ctx, app); err != nil {
			return nil, err
		}
		give, err := m.batch.turn(ctx, app, r.cpus())
		if err != nil {
			return nil, err
		}
		defer r.attend(ctx, give)()
		r.began = time.Now()
		if unready = r.start(ctx); unready == nil {
			unready = r.checkRecorded(ctx)
		}
		if unready != nil {
			return r.crowded(ctx, unready), nil
		}
	}
	m.batch.pass(app)
	defer m.batch.work()()
	unready = r.crowded(ctx, r.ready(ctx))
	if current.Balanced {
		if all, err = m.refresh(ctx, app); err != nil {
			return unready, err
		}
	}
	return unready, errors.Join(m.settleAndSay(app, current, all), m.remember(app, current, names))
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

// ReadyFirst is the order in which a boot goes through apps: those that have been ready
// first, so that no new one holds them up.
func (m *Machine) ReadyFirst(apps []string) []string {
	var ready, fresh []string
	for _, app := range apps {
		if g, err := store.Of(m.Layout, app).Current(); err == nil && g == nil {
			fresh = append(fresh, app)
		} else {
			ready = append(ready, app)
		}
	}
	return slices.Concat(ready, fresh)
}

// portsSettled is closed when awaitPorts, which the first call begins, is done.
func (m *Machine) portsSettled(ctx context.Context) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.settled == nil {
		m.settled = make(chan struct{})
		go func() {
			m.awaitPorts(ctx)
			close(m.settled)
		}()
	}
	return m.settled
}

// portsTime is the longest that new apps wait at boot for those that have been ready. So
// nobody can hold them up for longer by an app that never listens.
const portsTime = time.Minute

// awaitPorts waits until the apps that have been ready have their ports: each for as
// long as it may take to become ready, and no longer than portsTime.
func (m *Machine) awaitPorts(ctx context.Context) {
	apps, _, err := m.Apps()
	if err != nil {
		return // each app's own boot says so
	}
	var awaited []*store.Generation
	for _, app := range apps {
		if g, err := store.Of(m.Layout, app).Current(); err == nil && g != nil && m.asked(app) && !m.barred(g) {
			awaited = append(awaited, g)
		}
	}
	for began := time.Now(); len(awaited) > 0 && ctx.Err() == nil; wait(ctx, portsTick) {
		v, err := m.Traffic.Look()
		if err != nil {
			return
		}
		all, err := m.refreshAll(ctx, awaited)
		awaited = slices.DeleteFunc(awaited, func(g *store.Generation) bool {
			return time.Since(began) > min(seconds(g.ReadySec), portsTime) || err == nil && m.hasPorts(v, g, all[g.App])
		})
	}
}

// portsTick is how often awaitPorts looks.
const portsTick = 4 * tick

// refreshAll is refresh for the apps of several generations, with one question to PID 1 for
// all of them: one for each would be n questions, each of which it answers by going through
// the units of n apps.
func (m *Machine) refreshAll(ctx context.Context, all []*store.Generation) (map[string][]systemd.Unit, error) {
	var names []string
	for _, g := range all {
		names = append(names, patterns(g.App)...)
	}
	us, err := m.Systemd.Refresh(ctx, names...)
	if err != nil {
		return nil, err
	}
	byApp := make(map[string][]systemd.Unit)
	for _, u := range us {
		if i, ok := units.ParseInstance(u.Name); ok {
			byApp[i.App] = append(byApp[i.App], u)
		}
	}
	return byApp, nil
}

// hasPorts reports whether all instances of a generation, whose app has these units, run
// and listen on its PORT, and whether all ports are bound that they listened on when it
// became ready.
func (m *Machine) hasPorts(v *sockets.View, g *store.Generation, all []systemd.Unit) bool {
	up := slices.DeleteFunc(all, func(u systemd.Unit) bool { return !u.Up() })
	if len(up) < g.Nodes {
		return false
	}
	lacks, err := (&rollout{Machine: m, app: g.App, new: g}).lacks(v, up)
	if lacks != nil || err != nil {
		return false
	}
	bound := portsOf(v, up)
	return !slices.ContainsFunc(g.Ports, func(port int) bool { return !slices.Contains(bound, port) })
}

// asked reports whether an app has an .env, or a link to one, wherever that leads.
func (m *Machine) asked(app string) bool {
	_, err := os.Lstat(m.Layout.Env(app))
	return !errors.Is(err, fs.ErrNotExist)
}
