package status

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"app-rollout/rollout-helper/ports"
	"app-rollout/rollout-helper/rollout"
	"app-rollout/rollout-helper/sockets"
	"app-rollout/units"
	"app-rollout/units/problem"
	"app-rollout/units/store"
)

// Eyes see the machine.
type Eyes struct {
	*rollout.Machine
	Connections func(of ...uint16) ([]sockets.Connection, error)
}

// Apps are the names of all apps that the user can see, and what is wrong with
// /etc/app-rollout as a whole.
func (e Eyes) Apps() (names []string, problems []*units.Problem, err error) {
	names, problems, err = e.Machine.Apps()
	if errors.Is(err, fs.ErrPermission) {
		return units.AppNames(e.Layout)
	}
	return names, problems, err
}

// Report gathers everything about the named apps, or about all.
func (e Eyes) Report(ctx context.Context, names []string) (*Report, error) {
	all, problems, err := e.Apps()
	if err != nil {
		return nil, err
	}
	r := &Report{Version: Version, Machine: e.machine(), Apps: []App{}}
	if len(names) == 0 {
		names = all
		for _, p := range problems {
			r.Machine.Problems = append(r.Machine.Problems, *p)
		}
	}
	view, err := e.Traffic.Look()
	if err != nil {
		r.Machine.Hidden = append(r.Machine.Hidden, Unseen{"who listens", *problem.Of(err)})
	}
	runs, err := e.underWay(ctx)
	if err != nil {
		r.Machine.Hidden = append(r.Machine.Hidden, Unseen{"units", problem.Problem{Text: "systemd does not answer: " + err.Error()}})
	}
	for _, name := range names {
		r.Apps = append(r.Apps, e.app(ctx, name, view, runs))
	}
	return r, nil
}

// seePorts is where the service that shares the ports and sets tcp_migrate_req says
// what kept it from that.
const seePorts = "see: systemctl status app-rollout-ports"

func (e Eyes) machine() Machine {
	m := Machine{PortSharing: "on", Migrates: e.Traffic.Migrates(), Problems: []problem.Problem{}}
	build, err := ports.InForce(e.Layout.Path(units.BPFDir), units.SliceGroup)
	m.PortSharingBuild = string(build)
	if errors.Is(err, fs.ErrPermission) {
		m.PortSharing, m.PortSharingBuild, m.PortSharingWhy = "unknown", "unknown", "only root can look into "+units.BPFDir
		m.PortSharingRemedy = problem.Sudo(err)
	} else if err != nil {
		m.PortSharing, m.PortSharingWhy, m.PortSharingRemedy = "off", err.Error(), seePorts
		if p := e.Layout.Unshared(); p != nil {
			m.PortSharingWhy, m.PortSharingRemedy = p.What(), p.Remedy
		}
	}
	if !m.Migrates {
		m.MigratesRemedy = seePorts
	}
	return m
}

// underWay are the rollout services that run now, by the app, "" for all.
func (e Eyes) underWay(ctx context.Context) (map[string]*UnderWay, error) {
	us, err := e.Systemd.Units(ctx, "app-rollout.service", "app-rollout-boot.service", "app-rollout@*.service",
		"app-rollout-rollback@*.service", "app-rollout-restart@*.service", "app-rollout-recover.service", "app-rollout-recover@*.service")
	if err != nil {
		return nil, err
	}
	runs := make(map[string]*UnderWay)
	for _, u := range us {
		if u.Active != "activating" && u.Active != "deactivating" {
			continue
		}
		_, app, _ := strings.Cut(strings.TrimSuffix(u.Name, ".service"), "@")
		runs[app] = &UnderWay{Service: u.Name, Since: u.Since, Says: u.Status}
	}
	return runs, nil
}

// Look gathers what runs of one app, without what its .env asks for.
func (e Eyes) Look(ctx context.Context, name string) (App, error) {
	a := App{Name: name}
	hide := func(string, error) {}
	disk := store.Of(e.Layout, name)
	current, err := disk.Current()
	if err != nil {
		return a, err
	}
	e.stored(&a, disk, current, hide)
	us, err := e.Units(ctx, name)
	if err != nil {
		return a, err
	}
	view, err := e.Traffic.Look()
	if err != nil {
		return a, err
	}
	e.instances(&a, current, us, view, hide)
	return a, nil
}

func (e Eyes) app(ctx context.Context, name string, view *sockets.View, runs map[string]*UnderWay) App {
	a := App{Name: name, Instances: []Instance{}, UnderWay: runs[name]}
	if all := runs[""]; a.UnderWay == nil && all != nil {
		a.UnderWay = &UnderWay{Service: all.Service, Since: all.Since}
		if _, ok := rollout.About(all.Says, name); ok {
			a.UnderWay.Says = all.Says
		}
	}
	hide := func(what string, err error) { a.Hidden = append(a.Hidden, Unseen{what, why(err)}) }
	disk := store.Of(e.Layout, name)
	current, err := disk.Current()
	if err != nil {
		hide(hiddenStore, err)
	} else {
		e.stored(&a, disk, current, hide)
	}
	for _, err := range problem.Each(e.Layout.Shadows(name)) {
		a.Shadows = append(a.Shadows, *problem.Of(err))
	}
	for _, p := range e.Edited(name) {
		a.Shadows = append(a.Shadows, *p)
	}
	a.Asked = e.asked(name, current, err == nil)
	if a.Asked.State == Pending {
		e.refused(ctx, name, &a.Asked)
	}
	if a.Asked.State == Hidden {
		for _, why := range a.Asked.Why {
			a.Hidden = append(a.Hidden, Unseen{"what the .env asks for", why})
		}
		a.Asked.Why = nil
	}
	us, err := e.Units(ctx, name)
	if err != nil {
		hide("instances", err)
		return a
	}
	e.instances(&a, current, us, view, hide)
	if view != nil {
		a.Wrapper = e.Wrapped(view, us, a.Port)
	}
	a.State = state(a)
	return a
}

// why is an error for a user who may not do something.
func why(err error) problem.Problem {
	if remedy := problem.Sudo(err); remedy != "" {
		return problem.Problem{Text: "only root can see them", Remedy: remedy}
	}
	return *problem.Of(err)
}

// stored fills in what the store of generations knows.
func (e Eyes) stored(a *App, disk store.Store, current *store.Generation, hide func(string, error)) {
	a.Held = current.Held()
	last := current
	if current != nil {
		a.Mode, a.Port, a.Nodes = current.Mode, current.Port, current.Nodes
		a.Generation = &Generation{Number: current.Number, Ready: current.ReadySince(), User: current.User, WorkingDirectory: current.WorkingDirectory}
	}
	rejected, err := disk.Rejected()
	if err != nil {
		hide("rejected generation", err)
	}
	if rejected != nil && (current == nil || rejected.Number > current.Number) {
		last = rejected
	}
	if last != nil && last.Rollout != nil {
		a.Last = &Rollout{last.Number, *last.Rollout}
	}
}

// asked compares the .env with what runs; without rights to the store that
// cannot be told.
func (e Eyes) asked(name string, current *store.Generation, known bool) Asked {
	spec, err := e.Layout.Asked(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Asked{State: Gone}
	case err != nil && os.Geteuid() != 0 && !e.readable(name):
		return Asked{State: Hidden, Why: []problem.Problem{{Text: "only root and its owner can read it", Remedy: "try sudo"}}}
	case err != nil:
		a := Asked{State: Invalid}
		for _, e := range problem.Each(err) {
			a.Why = append(a.Why, *problem.Of(e))
		}
		return a
	case !known:
		return Asked{State: Hidden, Why: []problem.Problem{{Text: "only root can compare it with what runs", Remedy: "try sudo"}}}
	case current == nil:
		return e.rejected(name, spec, Asked{State: Pending})
	case current.Digest == spec.Digest():
		return Asked{State: Same}
	}
	a := Asked{State: Pending}
	if env, err := store.Of(e.Layout, name).Env(current.Number); err == nil {
		changes := current.Pending(spec, env)
		a.Changed, a.Otherwise = changes.Variables, changes.Others
	}
	return e.rejected(name, spec, a)
}

// readable says whether the user can open the .env.
func (e Eyes) readable(name string) bool {
	f, err := os.Open(e.Layout.Env(name))
	if err == nil {
		f.Close()
	}
	return err == nil
}

// rejected marks what failed before.
func (e Eyes) rejected(name string, spec *units.Spec, a Asked) Asked {
	g, err := store.Of(e.Layout, name).Rejected()
	if err != nil || g == nil || g.Digest != spec.Digest() {
		return a
	}
	a.State, a.Generation = Rejected, g.Number
	if g.Rollout != nil {
		a.Why = []problem.Problem{{Text: g.Rollout.Reason, Remedy: g.Rollout.Remedy}}
	}
	return a
}

// refused marks what a run would refuse.
func (e Eyes) refused(ctx context.Context, name string, a *Asked) {
	_, err := e.Plan(ctx, name)
	var refusal *rollout.RunError
	if errors.As(err, &refusal) {
		a.State, a.Why = Refused, []problem.Problem{refusal.Problem}
	}
}

// state sums up the instances.
func state(a App) string {
	up := 0
	for _, i := range a.Instances {
		if i.Up() && (a.Generation == nil || i.Generation == 0 || i.Generation == a.Generation.Number) {
			up++
		}
	}
	switch {
	case up > 0 && up >= a.Nodes:
		return "up"
	case up > 0:
		return "degraded"
	case slices.ContainsFunc(a.Instances, func(i Instance) bool { return i.Active != "inactive" }):
		return "down"
	}
	return "stopped"
}

// Says is the state for a person.
func (a App) Says() string {
	up := 0
	for _, i := range a.Instances {
		if i.Up() {
			up++
		}
	}
	n := len(a.Instances)
	switch {
	case a.State == "stopped":
		return "stopped"
	case a.Nodes > 0 && up <= a.Nodes:
		n = a.Nodes
	}
	if n == 1 {
		return map[bool]string{true: "1 instance is up", false: "its instance is down"}[up == 1]
	}
	return fmt.Sprintf("%d of %d instances are up", up, n)
}

// Listens says that the app has a port, or an instance that listens on one.
func (a App) Listens() bool {
	return a.Port != 0 || slices.ContainsFunc(a.Instances, func(i Instance) bool { return i.Listeners > 0 })
}

// HidesStore says that the generations cannot be seen.
func (a App) HidesStore() bool {
	return slices.ContainsFunc(a.Hidden, func(u Unseen) bool { return u.What == hiddenStore })
}

const hiddenStore = "generations, hold and last rollout"
