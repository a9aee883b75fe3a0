package sockets

import (
	"maps"
	"slices"
)

// View is one look at the machine: every TCP listener of this network namespace
// at one moment, and whose each of them is. What one tick decides, it decides
// from one View, so that no two decisions contradict each other.
//
// It has read the kernel's table once, and reads each control group at most
// once, when somebody first asks about it. It is for one goroutine.
type View struct {
	Listeners []Listener

	byCgroup map[uint64][]Listener
	trees    once[map[uint64]bool]
	away     once[bool]
}

// Look reads a View of this machine.
func Look() (*View, error) {
	listeners, err := Listeners()
	if err != nil {
		return nil, err
	}
	return NewView(listeners, Tree, Elsewhere), nil
}

// NewView makes a View of listeners that were read already. The functions tell
// it about a control group, as Tree and Elsewhere do.
func NewView(listeners []Listener, tree func(path string) (map[uint64]bool, error), elsewhere func(path string) (bool, error)) *View {
	v := &View{
		Listeners: listeners,
		byCgroup:  make(map[uint64][]Listener),
		trees:     once[map[uint64]bool]{read: tree, known: make(map[string]map[uint64]bool)},
		away:      once[bool]{read: elsewhere, known: make(map[string]bool)},
	}
	for _, l := range listeners {
		v.byCgroup[l.Cgroup] = append(v.byCgroup[l.Cgroup], l)
	}
	return v
}

// once reads something about a control group the first time it is asked for.
type once[T any] struct {
	read  func(path string) (T, error)
	known map[string]T
}

// of returns what is so of the control group at path. A unit that has none has
// the path "", of which nothing is so.
func (o once[T]) of(path string) (it T, err error) {
	if path == "" {
		return it, nil
	}
	it, known := o.known[path]
	if known {
		return it, nil
	}
	if it, err = o.read(path); err == nil {
		o.known[path] = it
	}
	return it, err
}

// Cgroups returns the ids that the sockets of the control group at path carry:
// its own, and those of all below it.
func (v *View) Cgroups(path string) (map[uint64]bool, error) { return v.trees.of(path) }

// Elsewhere reports whether a process of the control group at path lives in
// another network namespace, so that its listeners are not in the View.
func (v *View) Elsewhere(path string) (bool, error) { return v.away.of(path) }

// In returns the listeners of the control group at path and of all below it.
func (v *View) In(path string) ([]Listener, error) {
	ids, err := v.Cgroups(path)
	if err != nil {
		return nil, err
	}
	var in []Listener
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		in = append(in, v.byCgroup[id]...)
	}
	return in, nil
}

// Groups returns the groups that the listeners of the control group at path are
// in, each once and in order.
func (v *View) Groups(path string) ([]Group, error) {
	in, err := v.In(path)
	if err != nil {
		return nil, err
	}
	groups := make([]Group, len(in))
	for i, l := range in {
		groups[i] = l.Group
	}
	slices.SortFunc(groups, Group.Compare)
	return slices.Compact(groups), nil
}

// Queued counts the connections that wait to be accepted by the listeners of the
// control group at path and of all below it.
func (v *View) Queued(path string) (int, error) {
	in, err := v.In(path)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, l := range in {
		n += int(l.Queued)
	}
	return n, nil
}
