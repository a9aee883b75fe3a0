package rollout

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/systemd"
	"app-rollout/units/problem"
)

// Holder says who else has a port, on one address.
type Holder struct {
	Where string
	Who   []string // units, as systemctl takes them
}

// Holders are those who listen on a port, apart from an app's own units.
func (m *Machine) Holders(v *sockets.View, own []systemd.Unit, port int) ([]Holder, error) {
	mine := make(map[uint64]bool)
	for _, u := range own {
		ids, err := v.Cgroups(u.ControlGroup)
		if err != nil {
			return nil, err
		}
		maps.Copy(mine, ids)
	}
	owners := make(map[string][]string) // by where they listen
	for _, l := range v.Listeners {
		if int(l.Addr.Port()) != port || mine[l.Cgroup] {
			continue
		}
		where, owner := l.Group.String(), strings.TrimSuffix(m.Traffic.Owner(l.Cgroup), ".service")
		if !slices.Contains(owners[where], owner) {
			owners[where] = append(owners[where], owner)
		}
	}
	var all []Holder
	for _, where := range slices.Sorted(maps.Keys(owners)) {
		slices.Sort(owners[where])
		all = append(all, Holder{where, owners[where]})
	}
	return all, nil
}

// crowdedOut is the failure of an instance that does not listen on a port which
// somebody else has. That need not be the cause: it may have wanted another address.
type crowdedOut struct {
	failure *Failure
	port    int
	holders []Holder
}

func (c *crowdedOut) Error() string { return c.AsProblem().Error() }

// AsProblem is the failure with who has the port: see problem.Of.
func (c *crowdedOut) AsProblem() *problem.Problem {
	var taken []string
	for _, h := range c.holders {
		taken = append(taken, strings.Join(h.Who, " ")+" on "+h.Where)
	}
	p := c.failure.AsProblem()
	p.Text += fmt.Sprintf(", and its PORT %d is taken by %s", c.port, strings.Join(taken, ", "))
	p.Remedy = problem.Join("stop that, or give the app another port, unless the app listens on another address", p.Remedy)
	return p
}

func (c *crowdedOut) Unwrap() error { return c.failure }

// crowded adds to the failure of an instance who else has the port on which it does
// not listen. All that the instance itself says of that stands in its log.
func (r *rollout) crowded(ctx context.Context, cause error) error {
	var (
		failure *Failure
		not     *notStarted
	)
	if r.new.Port == 0 || !errors.As(cause, &failure) || errors.As(cause, &not) {
		return cause
	}
	l, err := r.look(ctx)
	if err != nil {
		return cause
	}
	groups, err := l.view.Groups(l.units[failure.Unit].ControlGroup)
	if err != nil || slices.ContainsFunc(groups, func(g sockets.Group) bool { return int(g.Addr.Port()) == r.new.Port }) {
		return cause
	}
	holders, err := r.Holders(l.view, slices.Collect(maps.Values(l.units)), r.new.Port)
	if err != nil || len(holders) == 0 {
		return cause
	}
	return &crowdedOut{failure, r.new.Port, holders}
}
