package rollout

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/systemd"
	"app-rollout/units/problem"
	"app-rollout/units/step"
)

// checkPaths looks for a Unix socket that a new unit has taken from another one of the
// app, by listening under the same name: nobody reaches the other one there any more. If
// the app can be reached only so, that ends the rollout.
func (r *rollout) checkPaths(l look) error {
	names := r.fresh
	if !r.tcp {
		names = slices.Concat(without(r.was, r.fresh), r.fresh)
	}
	where, names := r.samePath(l.of(names))
	if where == "" || slices.Contains(r.taken, where) {
		return nil
	}
	r.taken = append(r.taken, where)
	p := problem.Problem{
		Text:   fmt.Sprintf("%s listen on the same Unix socket, %s: only the last of them can be reached there", list(names), problem.Printable(where)),
		Remedy: "let them listen on PORT, or set SYSTEMD_CLUSTER_MODE=0, or give each instance a path of its own, with $SYSTEMD_INSTANCE in a sh -c",
	}
	if r.tcp {
		r.warn(step.Ready, &p)
		return nil
	}
	again := r.again()
	if len(r.was) > 0 {
		again = fmt.Sprintf("stop the app (systemctl stop %s), then: %s", stoppable(r.app, r.was), again)
	}
	p.Remedy += "; " + again
	return &RunError{Unit: names[len(names)-1], Problem: p}
}

// samePath is a name under which a new unit listens and one before it in the list too,
// each on a socket of its own, and all units that do; "" if there is none. Below /tmp
// and /var/tmp each has files of its own (PrivateTmp=). What cannot be seen is not
// there.
func (r *rollout) samePath(us []systemd.Unit) (where string, names []string) {
	us = slices.DeleteFunc(us, func(u systemd.Unit) bool { return u.ControlGroup == "" })
	paths, err := r.Traffic.Paths(us)
	if err != nil {
		return "", nil
	}
	first := make(map[string]uint32) // the first socket under a name
	for i := range us {
		for _, p := range paths[i] {
			if !path.IsAbs(p.Name) || strings.HasPrefix(p.Name, "/tmp/") || strings.HasPrefix(p.Name, "/var/tmp/") {
				continue
			}
			if inode, known := first[p.Name]; !known {
				first[p.Name] = p.Inode
			} else if inode != p.Inode && slices.Contains(r.fresh, us[i].Name) {
				where = p.Name
			}
		}
	}
	for i, u := range us {
		if slices.ContainsFunc(paths[i], func(p sockets.Path) bool { return p.Name == where }) {
			names = append(names, u.Name)
		}
	}
	return where, names
}
