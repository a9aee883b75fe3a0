package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"app-rollout/rollout-helper/rollout"
	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/systemd"
	"app-rollout/units"
	"app-rollout/units/problem"
	"app-rollout/units/store"
)

// Doctor looks at apps of one machine.
type Doctor struct {
	*rollout.Machine
	view   *sockets.View          // nil if it cannot be seen
	apps   map[string]*units.Spec // that were read
	of     string                 // the app of the file that is checked by its path; "" if it is no app's
	ports  map[int][]string       // the apps among them that want a port, in the order in which they were read
	mounts []mount                // what is mounted; nil before it is first asked
}

// begin reads what all apps are compared with.
func (d *Doctor) begin() {
	if d.apps != nil {
		return
	}
	d.apps, d.ports = make(map[string]*units.Spec), make(map[int][]string)
	// Without them some advice is missing; the machine's part says so.
	d.view, _ = d.Traffic.Look()
}

// App checks an app of /etc/app-rollout.
func (d *Doctor) App(ctx context.Context, r *Report, app string) {
	d.begin()
	spec, err := d.Layout.Read(app)
	if errors.Is(err, fs.ErrNotExist) {
		d.withoutEnv(ctx, r, app)
		return
	}
	if err != nil {
		r.Refuse(app, err)
		return
	}
	p, err := d.Plan(ctx, app)
	d.advise(ctx, r, spec, !rollout.NotItsPort(err))
	d.wrapper(ctx, r, spec)
	for _, p := range d.Edited(app) {
		r.warn(app, *p)
	}
	// What cannot be looked at may be what a run would refuse. So it counts as an error,
	// and a user without rights gets no better answer than root.
	const untold = "what a run would do cannot be told: "
	switch {
	case errors.Is(err, fs.ErrPermission):
		r.Refuse(app, &problem.Problem{Text: untold + "only root can see the generations", Remedy: "try sudo"})
	case err != nil && p == nil:
		p := problem.Of(err)
		r.Refuse(app, &problem.Problem{Text: untold + p.What(), Remedy: p.Remedy})
	case err != nil:
		r.Refuse(app, err)
	default:
		d.history(r, app, p)
	}
}

// withoutEnv is about an app whose .env is gone. If the app does not run, all is as it
// should be.
func (d *Doctor) withoutEnv(ctx context.Context, r *Report, app string) {
	us, err := d.Units(ctx, app)
	if err == nil && !slices.ContainsFunc(us, systemd.Unit.Live) {
		return
	}
	text := "is gone: the next run stops the app"
	if err != nil {
		text += ", if it still runs"
	}
	r.warn(app, problem.Problem{Path: d.Layout.Env(app), Text: text})
}

// File checks an .env that lies elsewhere, as if a link in /etc/app-rollout led
// to it. If one does already, of is its app, and else "".
func (d *Doctor) File(ctx context.Context, r *Report, app, path, of string) {
	d.begin()
	d.of = of
	defer func() { d.of = "" }()
	src, err := d.Layout.ReadFile(app, path)
	if err != nil {
		r.Refuse(app, err)
		return
	}
	if err := d.Layout.Shadows(app); err != nil {
		r.Refuse(app, err)
	}
	spec, err := d.Layout.Check(src)
	if err != nil {
		r.Refuse(app, err)
		return
	}
	d.advise(ctx, r, spec, true)
}

// history is advice from what was rolled out before.
func (d *Doctor) history(r *Report, app string, p *rollout.Plan) {
	if p.Held() {
		r.warn(app, problem.Problem{Text: fmt.Sprintf("is held on generation %d, which was rolled back to", p.Current.Number), Remedy: "app-rollout run " + app + " ends that"})
	}
	rejected, err := store.Of(d.Layout, app).Rejected()
	if err == nil && rejected != nil && rejected.Digest == p.Spec.Digest() && rejected.Rollout != nil {
		r.warn(app, problem.Problem{Path: p.Spec.Source.Path, Text: fmt.Sprintf("asks for what failed as generation %d: %s", rejected.Number, rejected.Rollout.Reason), Remedy: rejected.Rollout.Remedy})
	}
}

// advise is about one .env that is fine. Who else has its port is told if ports is set.
func (d *Doctor) advise(ctx context.Context, r *Report, spec *units.Spec, ports bool) {
	app, path, plan := spec.App, spec.Source.Path, spec.Plan
	for _, w := range spec.Warnings {
		r.warn(app, *w)
	}
	for _, p := range d.Layout.Outside(spec) {
		r.warn(app, *p)
	}
	if plan.Port == 0 {
		if plan.Mode == 1 {
			r.warn(app, problem.Problem{Path: path, Text: "PORT is missing: at the first start an instance that only keeps running counts as ready", Remedy: "set it to the port that the app listens on"})
		}
	} else if ports {
		d.port(ctx, r, spec)
	}
	if plan.Mode == 1 && !plan.ReusePort {
		r.warn(app, problem.Problem{Path: path, Text: "SYSTEMD_CLUSTER_REUSE_PORT is 0: the app must set SO_REUSEPORT itself, or its second instance finds the port taken"})
	}
	if plan.TimeoutStopSec < plan.DrainSec {
		r.warn(app, problem.Problem{Path: path, Text: fmt.Sprintf("SYSTEMD_TIMEOUT_STOP_SEC (%d s) is shorter than SYSTEMD_CLUSTER_DRAIN_SEC (%d s): where traffic cannot be steered, and at a plain stop, requests have only the shorter time to end",
			plan.TimeoutStopSec, plan.DrainSec)})
	}
	for _, p := range d.notAtBoot(path, plan.WorkingDirectory) {
		r.warn(app, *p)
	}
	d.apps[app] = spec
	if !slices.Contains(d.ports[plan.Port], app) {
		d.ports[plan.Port] = append(d.ports[plan.Port], app)
	}
}

// port looks who else has, or wants, the app's port.
func (d *Doctor) port(ctx context.Context, r *Report, spec *units.Spec) {
	app, port := spec.App, spec.Plan.Port
	for _, other := range slices.Sorted(slices.Values(d.ports[port])) {
		if other != app && other != d.of {
			r.warn(app, problem.Problem{Path: spec.Source.Path, Text: "PORT " + strconv.Itoa(port) + " is the app " + other + "'s too", Remedy: "give one of them another, unless they listen on different addresses"})
		}
	}
	us, err := d.Units(ctx, cmp.Or(d.of, app))
	if err != nil || d.view == nil {
		return // the machine's part says so
	}
	holders, err := d.Holders(d.view, us, port)
	if err != nil {
		return
	}
	for _, h := range holders {
		r.warn(app, problem.Problem{Path: spec.Source.Path, Text: "PORT " + strconv.Itoa(port) + " is taken by " + strings.Join(h.Who, " ") + " on " + h.Where, Remedy: "stop that, or give the app another port, unless the app listens on another address"})
	}
}
