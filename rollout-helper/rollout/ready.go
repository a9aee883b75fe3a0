package rollout

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/steering"
	"app-rollout/rollout-helper/systemd"
	"app-rollout/units"
)

// ready waits until every new instance has proved itself: it is active, it
// listens, by its own cgroup, where it must, nobody else listens there, and it
// answers by itself when asked. "The job is done" is never taken for that.
func (r *rollout) ready(ctx context.Context) error {
	if len(r.fresh) == 0 {
		return nil
	}
	deadline := r.began.Add(seconds(r.new.ReadySec))
	answered := make(map[string]bool)
	var us []systemd.Unit
	for {
		var err error
		if us, err = r.Systemd.Again(ctx, us, slices.Concat(r.was, r.fresh)...); err != nil {
			return err
		}
		lacks, err := r.look(ctx, us, answered)
		if err != nil {
			return err
		}
		if lacks == nil {
			r.say(Info, "ready", "%s are ready", list(r.fresh))
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			lacks.How = fmt.Sprintf("was not ready after %d s: it %s", r.new.ReadySec, lacks.How)
			return lacks
		}
		wait(ctx, tick)
	}
}

// look returns what a new instance still lacks, nil when none lacks anything;
// an error when waiting longer would not help.
func (r *rollout) look(ctx context.Context, us []systemd.Unit, answered map[string]bool) (*Failure, error) {
	serving, fresh := split(us, r.fresh)
	for _, u := range fresh {
		if err := started("done", nil, u); err != nil && !r.patient {
			return nil, err
		}
	}
	if len(fresh) < len(r.fresh) {
		return &Failure{r.fresh[0], "is not loaded"}, nil
	}
	listeners, err := r.Traffic.Listeners()
	if err != nil {
		return nil, err
	}
	if lacks, err := r.lacks(fresh, listeners); lacks != nil || err != nil {
		return lacks, err
	}
	if err := r.alone(us, fresh, listeners); err != nil {
		return nil, err
	}
	asked := fresh
	if len(serving) == 0 {
		// With no generation before it, the new one serves while it is asked.
		serving, asked = fresh, nil
	}
	if err := r.lead(serving, asked); err != nil {
		return nil, err
	}
	for _, u := range fresh {
		if answered[u.Name] || !r.askable() {
			continue
		}
		if err := r.ask(ctx, u); err != nil {
			return &Failure{u.Name, err.Error()}, nil
		}
		answered[u.Name] = true
	}
	r.runs = make(map[string]string)
	for _, u := range fresh {
		r.runs[u.Name] = u.Invocation
	}
	return nil, nil
}

// lacks returns what the first of the units lacks as a listener, nil if none
// lacks anything.
func (r *rollout) lacks(us []systemd.Unit, listeners []sockets.Listener) (first *Failure, err error) {
	for _, u := range us {
		lack, err := r.listens(u, listeners)
		if err != nil {
			return nil, err
		}
		if lack != "" && first == nil {
			first = &Failure{u.Name, lack}
		}
	}
	return first, nil
}

// split takes the named ones out of the units.
func split(us []systemd.Unit, names []string) (others, named []systemd.Unit) {
	for _, u := range us {
		if slices.Contains(names, u.Name) {
			named = append(named, u)
		} else {
			others = append(others, u)
		}
	}
	return others, named
}

// askable: only an instance of which it is known where it listens can be asked.
func (r *rollout) askable() bool { return r.new.Port != 0 || len(r.groups) > 0 }

func (r *rollout) ask(ctx context.Context, u systemd.Unit) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var err error
	if r.record.Rung == Steered {
		err = r.Traffic.Ask(ctx, r.app, u, r.new.Port, r.new.HealthPath)
	} else {
		err = r.Traffic.Reach(ctx, u, r.groups, r.new.Port, r.new.HealthPath)
	}
	var not *steering.Unavailable
	if !errors.As(err, &not) {
		return err
	}
	// No rollout fails for that it cannot ask, but it says so, once.
	if r.new.HealthPath != "" && !r.unasked {
		r.unasked = true
		r.say(Warning, "ready", "SYSTEMD_CLUSTER_HEALTH_PATH is not asked for: %s", not.Reason)
	}
	return nil
}

// listens tells what the unit lacks as a listener, "" for nothing: it must
// listen in every group that the serving units share, and on the app's port.
// A group beside theirs on one of their ports is an error at once: the kernel
// picks the group before any program runs, so connections would go astray.
func (r *rollout) listens(u systemd.Unit, listeners []sockets.Listener) (lack string, err error) {
	if !u.Up() {
		return "is still starting", nil
	}
	own, err := r.groupsOf(u, listeners)
	if err != nil {
		return "", err
	}
	if len(own) == 0 && len(r.groups) == 0 {
		// Where it cannot be seen, that it runs must do.
		if elsewhere, err := r.Traffic.Elsewhere(u); err != nil || elsewhere {
			return "", err
		}
	}
	for _, g := range own {
		beside := slices.ContainsFunc(r.groups, func(o sockets.Group) bool { return o.Addr.Port() == g.Addr.Port() })
		if beside && !slices.Contains(r.groups, g) {
			return "", &Failure{u.Name, fmt.Sprintf("listens on %s, but the running generation on %s: to change the address, stop the app (systemctl stop %s), then: %s",
				g, addresses(r.groups), r.stoppable(), r.again())}
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

// elsewhere helps whoever set one port and gave another to the app.
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

// stoppable names what runs as systemctl stop takes it, which fails for a unit
// that is not there.
func (r *rollout) stoppable() string {
	service := units.Instance(r.app, 0)
	switch one := slices.Contains(r.was, service); {
	case one && len(r.was) == 1:
		return service
	case one:
		return service + " '" + r.app + "@*.service'"
	}
	return "'" + r.app + "@*.service'"
}

// free holds, before anything is started, that nobody else of the app's user
// listens on its port: else the new instances would get a part of his
// connections until alone finds it out. Where instances run already they are
// the ones that share it, in groups that are known. Somebody who has an address
// of his own is let be: the app may want another.
func (r *rollout) free() error {
	uid, known := r.Layout.UserID(r.new.User)
	if len(r.was) > 0 || r.new.Port == 0 || !known {
		return nil
	}
	listeners, err := r.Traffic.Listeners()
	if err != nil {
		return err
	}
	for _, l := range listeners {
		address := l.Addr.Addr().Unmap()
		if l.UID == uid && int(l.Addr.Port()) == r.new.Port && (address.IsUnspecified() || address.IsLoopback()) {
			return r.taken(l)
		}
	}
	return nil
}

func (r *rollout) taken(l sockets.Listener) error {
	return fmt.Errorf("%s listens on %s too; stop it or give one of them another port", r.Traffic.Owner(l.Cgroup), l.Group)
}

// alone holds that nobody but the app's own units listens in its groups: since
// ports are shared, a stranger of the same user would get a part of the
// connections, silently.
func (r *rollout) alone(us, of []systemd.Unit, listeners []sockets.Listener) error {
	mine := make(map[uint64]bool)
	for _, u := range us {
		ids, err := r.Traffic.Cgroups(u)
		if err != nil {
			return err
		}
		maps.Copy(mine, ids)
	}
	for _, u := range of {
		groups, err := r.groupsOf(u, listeners)
		if err != nil {
			return err
		}
		for _, l := range listeners {
			if slices.Contains(groups, l.Group) && !mine[l.Cgroup] {
				return r.taken(l)
			}
		}
	}
	return nil
}

// groupsOf are the groups that a unit listens in, in a fixed order.
func (r *rollout) groupsOf(u systemd.Unit, listeners []sockets.Listener) ([]sockets.Group, error) {
	ids, err := r.Traffic.Cgroups(u)
	if err != nil {
		return nil, err
	}
	var groups []sockets.Group
	for _, l := range listeners {
		if ids[l.Cgroup] && !slices.Contains(groups, l.Group) {
			groups = append(groups, l.Group)
		}
	}
	slices.SortFunc(groups, sockets.Group.Compare)
	return groups, nil
}

// shared are the groups that all the units listen in: what clients know the
// app by. A port that each instance chose for itself is not among them.
func (r *rollout) shared(us []systemd.Unit) ([]sockets.Group, error) {
	listeners, err := r.Traffic.Listeners()
	if err != nil {
		return nil, err
	}
	var shared []sockets.Group
	seen := 0
	for _, u := range us {
		if !u.Up() {
			continue
		}
		own, err := r.groupsOf(u, listeners)
		if err != nil {
			return nil, err
		}
		if seen++; seen == 1 {
			shared = own
			continue
		}
		shared = slices.DeleteFunc(shared, func(g sockets.Group) bool { return !slices.Contains(own, g) })
	}
	if seen == 1 {
		// One alone does not tell which ports it left to the kernel, but for
		// where these are taken from.
		low, high := sockets.ClientPorts()
		shared = slices.DeleteFunc(shared, func(g sockets.Group) bool {
			port := g.Addr.Port()
			return port >= low && port <= high && int(port) != r.new.Port
		})
	}
	return shared, nil
}
