package status

import (
	"maps"
	"slices"

	"app-rollout/rollout-helper/rollout"
	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/systemd"
	"app-rollout/units"
	"app-rollout/units/store"
)

// instances fills in the app's units: those that run, and those that failed.
func (e Eyes) instances(a *App, current *store.Generation, us []systemd.Unit, view *sockets.View, hide func(string, error)) {
	var cgroups []map[uint64]bool
	var listeners [][]sockets.Listener
	for _, u := range us {
		if !u.Live() && u.Active != "failed" {
			continue
		}
		own, _ := units.ParseInstance(u.Name)
		i := Instance{
			Unit: u.Name, Number: own.Number, Generation: e.generation(own, current, u), Active: u.Active, Sub: u.Sub,
			PID: u.MainPID, Since: u.Since, Restarts: u.Restarts, Memory: u.Memory,
		}
		if a.Generation == nil && i.Number > 0 {
			a.Mode = 1
		}
		if view != nil {
			ids, err := view.Cgroups(u.ControlGroup)
			if err != nil {
				hide("sockets of "+u.Name, err)
			}
			own, _ := view.In(u.ControlGroup)
			cgroups, listeners = append(cgroups, ids), append(listeners, own)
		}
		a.Instances = append(a.Instances, i)
	}
	if a.Generation == nil {
		a.Nodes = max(a.Nodes, len(a.Instances))
	}
	if view != nil {
		e.shares(a, cgroups, listeners, hide)
	}
}

// generation is the number of the generation that an instance's process was started from,
// 0 if no run has recorded it yet. An instance that a change of the number of nodes has
// kept counts as one of the current generation, which differs in nothing else.
func (e Eyes) generation(i units.Instance, current *store.Generation, u systemd.Unit) int {
	number, _ := units.ParseSourcePath(i.App, rollout.Origin(u))
	if number == 0 || current == nil || number == current.Number {
		return number
	}
	given, err := store.Of(e.Layout, i.App).Instances()
	if err == nil && slices.Contains(given.Generations[current.Number], i.Number) && e.Runs(current, u) {
		return current.Number
	}
	return number
}

// shares counts sockets: the kernel picks a listener of the group by a hash of
// the connection's addresses, so each gets the same share.
func (e Eyes) shares(a *App, cgroups []map[uint64]bool, listeners [][]sockets.Listener, hide func(string, error)) {
	asked := make(map[uint16]bool)
	total := 0
	for i := range a.Instances {
		for _, l := range listeners[i] {
			port := l.Addr.Port()
			if a.Port != 0 && int(port) != a.Port {
				continue
			}
			a.Instances[i].Listeners++
			total++
			asked[port] = true
		}
	}
	for i := range a.Instances {
		if total > 0 && a.UnderWay == nil {
			share := 100 * float64(a.Instances[i].Listeners) / float64(total)
			a.Instances[i].Share = &share
		}
	}
	// An old instance whose listener is closed may still have connections.
	if a.Port != 0 {
		asked[uint16(a.Port)] = true
	}
	if len(a.Instances) == 0 || len(asked) == 0 {
		return
	}
	connections, err := e.Connections(slices.Sorted(maps.Keys(asked))...)
	if err != nil {
		hide("connections", err)
	}
	for _, c := range connections {
		for i := range a.Instances {
			if !c.HalfOpen && cgroups[i][c.Cgroup] {
				a.Instances[i].Connections++
			}
		}
	}
}
