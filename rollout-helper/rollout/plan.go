package rollout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"app-rollout/rollout-helper/systemd"
	"app-rollout/units"
	"app-rollout/units/store"
)

// Plan is what a run does with an app. The run carries it out and `app-rollout show`
// prints it, so that what is shown is what is done.
type Plan struct {
	Spec       *units.Spec       // what the .env asks for; nil if it is gone, or in a rollback
	Current    *store.Generation // nil if none was ever ready
	Generation int               // the number of the generation that is made

	Left    []units.Instance // what an unfinished run has left: it is stopped first
	InPlace bool             // mode 0: the one service is restarted
	Keep    []units.Instance // they go on
	Start   []units.Instance
	Stop    []units.Instance

	next   int  // the lowest instance number that is free afterwards
	reread bool // systemd has to read the units before the start
}

// Held reports whether a run for all apps leaves the app alone.
func (p *Plan) Held() bool { return p.Current.Held() }

// Listens reports whether the app has a port, or was not seen yet to have none.
func (p *Plan) Listens() bool {
	g := p.Current
	return p.Spec.Plan.Port != 0 || g == nil || g.Rollout == nil || g.Rollout.Counts != nil
}

// Drain is how long old instances get to finish, in seconds: as long as they were
// promised when they were started, or less if the .env now asks for less.
func (p *Plan) Drain() int {
	if p.Current != nil {
		return min(p.Current.DrainSec, p.Spec.Plan.DrainSec)
	}
	return p.Spec.Plan.DrainSec
}

// Why is the reason for the rollout, in words.
func (p *Plan) Why(disk store.Store) string {
	if p.Spec == nil {
		return "the .env is gone"
	}
	if p.Current == nil {
		return "no generation has been ready yet"
	}
	rejected, err := disk.Rejected()
	if err == nil && rejected != nil && rejected.Digest == p.Spec.Digest() {
		return fmt.Sprintf("the .env asks for what failed as generation %d; naming the app tries it again", rejected.Number)
	}
	env, err := disk.Env(p.Current.Number)
	if err != nil {
		return "what runs cannot be compared: " + err.Error()
	}
	changes := p.Current.Pending(p.Spec, env)
	if changes.None() {
		return "nothing in the .env has changed, but each run deploys: the code may have"
	}
	return fmt.Sprintf("changed since generation %d: %s", p.Current.Number, strings.Join(changes.Names(), ", "))
}

// situation is all that a plan depends on.
type situation struct {
	app     string
	current *store.Generation     // nil if none was ever ready
	given   store.Instances       // the numbers that were given out
	loaded  []loaded              // what systemd knows of the app, in the order of the numbers
	next    int                   // the number of the next generation
	holder  func(port int) string // the other app that a port belongs to, or ""

	// What an unfinished run has left, for recover to put right.
	mine    []string // the units that are to serve between two rollouts; some may not run
	strays  []string // the others that run
	foreign []string // the units whose file is not that of their generation
	reload  bool     // systemd has units loaded that are to be gone
}

// unfinished reports whether there is anything to put right.
func (s situation) unfinished() bool { return len(s.strays) > 0 || len(s.foreign) > 0 || s.reload }

// loaded is an instance in the state that systemd has it in.
type loaded struct {
	units.Instance
	live, up bool
}

// situation looks at an app. Nothing is reserved by looking.
func (m *Machine) situation(ctx context.Context, app string, all []systemd.Unit) (s situation, err error) {
	disk := store.Of(m.Layout, app)
	s.app, s.holder = app, func(port int) string { return m.holder(app, port) }
	if s.current, err = disk.Current(); err != nil {
		return s, err
	}
	if s.given, err = disk.Instances(); err != nil {
		return s, err
	}
	if s.next, err = disk.Next(); err != nil {
		return s, err
	}
	for _, u := range all {
		if i, ok := units.ParseInstance(u.Name); ok {
			s.loaded = append(s.loaded, loaded{i, u.Live(), u.Up()})
		}
	}
	files, err := m.unitFiles(app)
	if err != nil {
		return s, err
	}
	running := unitNames(s.running())
	s.mine = s.serving(running, files)
	s.strays = without(running, s.mine)
	if s.foreign, err = m.foreign(app, s.current, files, s.mine); err != nil {
		return s, err
	}
	// What the boot has started may be wanted though it does not run.
	s.reload = s.current != nil && len(s.given.Generations[s.current.Number]) > 0 && m.needsReload(app, s.current, all, s.mine)
	return s, nil
}

// running are the instances that have to be stopped to be gone.
func (s situation) running() (all []units.Instance) {
	for _, l := range s.loaded {
		if l.live {
			all = append(all, l.Instance)
		}
	}
	return all
}

// recovered is the situation when recover has been there, and what that stops.
func (s situation) recovered() (after situation, left []units.Instance) {
	if !s.unfinished() {
		return s, nil
	}
	next := s.above(s.given.Next)
	s.given = remembered(s.given, s.current, s.mine)
	s.given.Next = max(s.given.Next, next)
	s.loaded = slices.DeleteFunc(slices.Clone(s.loaded), func(l loaded) bool {
		stray := slices.Contains(s.strays, l.Unit())
		if stray {
			left = append(left, l.Instance)
		}
		return stray
	})
	return s, left
}

// above is the lowest number that nothing loaded has: systemd may have any number
// loaded that it was ever asked about.
func (s situation) above(next int) int {
	for _, l := range s.loaded {
		next = max(next, l.Number+1)
	}
	return next
}

// stop is the plan for an app whose .env is gone.
func (s situation) stop() *Plan {
	p := &Plan{Current: s.current}
	if s.known() {
		p.Stop = s.running()
	}
	return p
}

// known reports whether the app was ever rolled out, or booted, by us. If it was not,
// units that have its name are not ours.
func (s situation) known() bool {
	return s.current != nil || len(s.given.Generations) > 0 || len(s.given.Serving) > 0
}

// plan is the plan for a rollout to a generation of the given settings. unsized is
// the digest that says whether only the number of nodes differs.
func (s situation) plan(to units.Plan, unsized string) *Plan {
	p := &Plan{Current: s.current, Generation: s.next, next: s.given.Next}
	running := s.running()
	if to.Mode == 0 && slices.Contains(running, units.Instance{App: s.app}) {
		p.InPlace, p.Start, p.Stop = true, running, running
		return p
	}
	// At the very first start nothing of the app was ever run, so all numbers are free,
	// and systemd reads anew what it may have loaded.
	first := len(running) == 0 && s.given.Next == 1
	if !first {
		p.next = s.above(p.next)
	}
	p.reread = first || to.Mode == 0
	if to.Mode == 0 {
		p.Start = []units.Instance{{App: s.app}}
	} else {
		p.Keep = s.keep(to, unsized, running)
		for range to.Nodes - len(p.Keep) {
			p.Start = append(p.Start, units.Instance{App: s.app, Number: p.next})
			p.next++
		}
	}
	p.Stop = slices.DeleteFunc(running, func(i units.Instance) bool { return slices.Contains(p.Keep, i) })
	return p
}

// keep are the running instances that the new generation goes on with: only if it
// differs in nothing but the number of nodes, and if all of them are well.
func (s situation) keep(to units.Plan, unsized string, running []units.Instance) []units.Instance {
	old := s.current
	if old == nil || old.Mode != 1 || old.Nodes == to.Nodes || old.Unsized != unsized || len(running) != old.Nodes {
		return nil
	}
	if slices.ContainsFunc(s.loaded, func(l loaded) bool { return l.live && !l.up }) {
		return nil
	}
	return slices.Clone(running[:min(old.Nodes, to.Nodes)])
}

// Plan is what naming the app in a run would do now. Nothing is done, written or
// reserved by finding it out. The error is the one that the run would end with
// before it touches anything; with it, the plan is nil if the app could not be
// looked at.
func (m *Machine) Plan(ctx context.Context, app string) (*Plan, error) {
	all, err := m.Units(ctx, app)
	if err != nil {
		return nil, err
	}
	s, err := m.situation(ctx, app, all)
	if err != nil {
		return nil, err
	}
	s, left := s.recovered()
	spec, err := m.Layout.Read(app)
	p := s.stop()
	p.Left = left
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	if refusal := s.refusal(spec.Plan, rerun(app, s.current)); refusal != nil {
		refusal.Path = spec.Source.Path
		return p, refusal
	}
	p = s.plan(spec.Plan, spec.Unsized())
	p.Spec, p.Left = spec, left
	return p, nil
}

// refusal says why what is asked for cannot share the port, or the unit's name, with
// what runs, or that the port is another app's; nil if it can have them. again is the
// command that asked for it. Whose the port is comes first: who stops the app, so that it
// can be started on another port, is not to hear only then that it cannot have that.
func (s situation) refusal(to units.Plan, again string) *RunError {
	if s.newPort(to) {
		if other := s.holder(to.Port); other != "" {
			return notItsPort(s.app, other, fmt.Sprintf("port %d belongs to %s", to.Port, other), again)
		}
	}
	return s.unlike(to, again)
}

// unlike says why what is asked for cannot run beside what runs of the app.
func (s situation) unlike(to units.Plan, again string) *RunError {
	running := unitNames(s.running())
	service := units.Service(s.app)
	if to.Mode == 0 && len(running) > 1 && slices.Contains(running, service) {
		others := without(running, []string{service})
		return told(fmt.Sprintf("%s %s beside %s, which would be restarted", list(others), verb(others, "runs", "run"), list([]string{service})),
			fmt.Sprintf("stop %s (systemctl stop %s), then: %s", verb(others, "it", "them"), list(others), again))
	}
	old := s.current
	if old == nil || len(running) == 0 || old.Mode == 0 && to.Mode == 0 {
		return nil
	}
	what := ""
	switch {
	case old.User != to.User:
		what = fmt.Sprintf("is to run as user %s, but runs as %s, and two users cannot share a port", to.User, old.User)
	case old.Port != 0 && to.Port != 0 && old.Port != to.Port:
		what = fmt.Sprintf("is to listen on port %d, but listens on %d, where its clients are", to.Port, old.Port)
	default:
		return nil
	}
	return told("the app "+what, fmt.Sprintf("stop it (systemctl stop %s), then: %s", stoppable(s.app, running), again))
}
