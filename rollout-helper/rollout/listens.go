package rollout

import (
	"fmt"
	"maps"
	"slices"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/systemd"
	"app-rollout/units"
	"app-rollout/units/problem"
)

// lacks returns what the first of the units lacks as a listener, nil if none
// lacks anything.
func (r *rollout) lacks(v *sockets.View, us []systemd.Unit) (first *Failure, err error) {
	for _, u := range us {
		lack, err := r.listens(v, u)
		if err != nil {
			return nil, err
		}
		if lack != "" && first == nil {
			first = &Failure{u.Name, lack}
		}
	}
	return first, nil
}

// listens returns what the unit lacks as a listener, "" for nothing: it must listen
// in every group that the serving units share, and on the app's port. If it listens
// on one of their ports, but in another group, that is an error at once: the kernel
// picks the group before any program runs, so connections would go astray.
func (r *rollout) listens(v *sockets.View, u systemd.Unit) (lack string, err error) {
	if !u.Up() {
		return "is still starting", nil
	}
	own, err := v.Groups(u.ControlGroup)
	if err != nil {
		return "", err
	}
	r.tcp = r.tcp || len(own) > 0
	if len(own) == 0 && len(r.groups) == 0 {
		// Its listeners cannot be seen: it is enough that it runs.
		if elsewhere, err := v.Elsewhere(u.ControlGroup); err != nil || elsewhere {
			r.tcp = r.tcp || elsewhere
			return "", err
		}
	}
	for _, g := range own {
		beside := slices.ContainsFunc(r.groups, func(o sockets.Group) bool { return o.Addr.Port() == g.Addr.Port() })
		if beside && !slices.Contains(r.groups, g) {
			return "", &RunError{Unit: u.Name, Problem: problem.Problem{
				Text:   fmt.Sprintf("%s listens on %s, but the running generation on %s", u.Name, g, addresses(r.groups)),
				Remedy: fmt.Sprintf("see: journalctl -b -u %s; to change the address, stop the app (systemctl stop %s), then: %s", u.Name, stoppable(r.app, r.was), r.again()),
			}}
		}
	}
	for _, g := range r.groups {
		if !slices.Contains(own, g) {
			return "does not listen on " + g.String() + " as the running instances do" + elsewhere(own), nil
		}
	}
	if r.new.Port != 0 && !slices.ContainsFunc(own, func(g sockets.Group) bool { return int(g.Addr.Port()) == r.new.Port }) {
		return fmt.Sprintf("does not listen on its PORT %d%s", r.new.Port, elsewhere(own)), nil
	}
	return "", nil
}

// noteListeners notes whether the units listen on TCP ports.
func (r *rollout) noteListeners(v *sockets.View, us []systemd.Unit) error {
	for _, u := range us {
		if r.tcp {
			break
		}
		own, err := v.Groups(u.ControlGroup)
		if err != nil {
			return err
		}
		away, err := v.Elsewhere(u.ControlGroup)
		if err != nil {
			return err
		}
		r.tcp = len(own) > 0 || away
	}
	return nil
}

// elsewhere says where an instance listens instead, for a person who set one port
// and gave another to the app.
func elsewhere(own []sockets.Group) string {
	if len(own) == 0 {
		return ""
	}
	return " but on " + addresses(own)
}

func addresses(groups []sockets.Group) string {
	s := ""
	for i, g := range groups {
		if i > 0 {
			s += " "
		}
		s += g.String()
	}
	return s
}

// checkNoStranger fails if anybody but the app's own units listens where the new
// ones do. Ports are shared, so a stranger of the same user would silently get a
// part of the connections.
func (r *rollout) checkNoStranger(l look) error {
	fresh := l.of(r.fresh)
	mine, groups := make(map[uint64]bool), make(map[sockets.Group]bool)
	for _, u := range slices.Concat(l.of(r.was), fresh) {
		ids, err := l.view.Cgroups(u.ControlGroup)
		if err != nil {
			return err
		}
		maps.Copy(mine, ids)
	}
	for _, u := range fresh {
		own, err := l.view.Groups(u.ControlGroup)
		if err != nil {
			return err
		}
		for _, g := range own {
			groups[g] = true
		}
	}
	for _, listener := range l.view.Listeners {
		if groups[listener.Group] && !mine[listener.Cgroup] {
			return r.strangerAt(listener, " too")
		}
	}
	return nil
}

// strangerAt is the problem that somebody else listens where the app does (too is " too"),
// or is about to (too is "").
func (r *rollout) strangerAt(l sockets.Listener, too string) error {
	return &problem.Problem{
		Text:   fmt.Sprintf("%s listens on %s%s", r.Traffic.Owner(l.Cgroup), l.Group, too),
		Remedy: "stop it or give one of them another port",
	}
}

// stoppable names the units that run, for systemctl stop, which fails if one of
// those it is given is not there.
func stoppable(app string, running []string) string {
	service := units.Service(app)
	switch one := slices.Contains(running, service); {
	case one && len(running) == 1:
		return service
	case one:
		return service + " '" + app + "@*.service'"
	}
	return "'" + app + "@*.service'"
}
