package rollout

import (
	"context"
	"fmt"
	"slices"
	"time"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/systemd"
	"app-rollout/units/problem"
	"app-rollout/units/store"
)

// How serves says it: "generation 1 still serves".
const (
	simply = "%s"
	still  = "still %s"
	anew   = "%s again"
)

// serves says what the named units do at this moment, by a look at them. They are
// those of g or, if that is nil, those that run without a record.
func (r *rollout) serves(ctx context.Context, g *store.Generation, names []string, how string) string {
	if len(names) == 0 {
		return "nothing serves"
	}
	act := "serve"
	if !r.tcp {
		act = "run" // whether anybody can reach it cannot be seen
	}
	who, does, not := list(names), act+verb(names, "s", ""), verb(names, "does not ", "do not ")+act
	if g != nil {
		who, does, not = fmt.Sprintf("generation %d", g.Number), act+"s", "does not "+act
	}
	does = fmt.Sprintf(how, does)
	well, why, err := r.well(ctx, g, names)
	switch {
	case len(r.taken) > 0 && !r.tcp:
		return fmt.Sprintf("%s %s, but nobody reaches it at %s any more: systemctl restart %s", who, does, problem.Printable(r.taken[0]), stoppable(r.app, names))
	case err != nil:
		return fmt.Sprintf("whether %s %s cannot be seen: %v", who, does, err)
	case len(well) == len(names):
		return who + " " + does
	case len(well) == 0:
		return fmt.Sprintf("%s %s: %s", who, not, why)
	}
	return fmt.Sprintf("of %s only %s %s well: %s", who, list(well), verb(well, "is", "are"), why)
}

// comesBack is serves for the one service of mode 0, which was restarted on g: it gets
// some time to listen.
func (r *rollout) comesBack(ctx context.Context, g *store.Generation, names []string, limit time.Duration) string {
	for deadline := time.Now().Add(limit); ; wait(ctx, tick) {
		well, _, err := r.well(ctx, g, names)
		if len(well) == len(names) || err != nil || time.Now().After(deadline) {
			return r.serves(ctx, g, names, anew)
		}
	}
}

// well are those of the units that do what they are to do, and why the first of the
// others does not.
func (r *rollout) well(ctx context.Context, g *store.Generation, names []string) (well []string, why string, err error) {
	l, err := r.look(ctx)
	if err != nil {
		return nil, "", err
	}
	for _, name := range names {
		lack, err := r.down(l.view, l.units[name], g)
		if err != nil {
			return nil, "", err
		}
		if lack == "" {
			well = append(well, name)
		} else if why == "" {
			why = list([]string{name}) + " " + lack
		}
	}
	return well, why, nil
}

// down says why a unit does not serve, "" if it does: it is up, and listens on its port
// and in the groups in which the app listened before.
func (r *rollout) down(v *sockets.View, u systemd.Unit, g *store.Generation) (why string, err error) {
	if !u.Up() {
		return "is down", nil
	}
	own, err := v.Groups(u.ControlGroup)
	if err != nil {
		return "", err
	}
	for _, group := range r.groups {
		if !slices.Contains(own, group) {
			return "does not listen on " + group.String(), nil
		}
	}
	if g == nil || g.Port == 0 {
		return "", nil
	}
	away, err := v.Elsewhere(u.ControlGroup)
	if err != nil || away {
		return "", err
	}
	if !slices.ContainsFunc(own, func(o sockets.Group) bool { return int(o.Addr.Port()) == g.Port }) {
		return fmt.Sprintf("does not listen on its PORT %d", g.Port), nil
	}
	return "", nil
}
