// Package traffic is what a rollout asks of the kernel. It puts together package
// sockets, which only reads, and package steering, which decides whom a new
// connection reaches.
package traffic

import (
	"errors"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"app-rollout/rollout-helper/closing"
	"app-rollout/rollout-helper/ports"
	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/steering"
	"app-rollout/rollout-helper/systemd"
)

// Kernel is this machine's kernel. Each app is steered by itself.
type Kernel struct {
	mu          sync.Mutex
	apps        map[string]*lanes
	openClosing func(dir string) (*closing.Closing, error)
}

// lanes are one app's connections.
type lanes struct {
	steering  steering.Steering
	telling   *telling
	tells     bool              // clients are told to close
	serving   string            // the names of the units that are steered to
	since     time.Time         // when that began
	draining  map[string]string // the control groups of the units that drain watches, by their names
	drain     *sockets.Drain
	doors     map[place]*door // where units are asked to accept a connection
	following *sockets.Drain  // what follows connections to their end, nil if nothing does
}

// New returns the kernel, with nothing steered yet.
func New() *Kernel { return &Kernel{apps: make(map[string]*lanes), openClosing: closing.Open} }

func (k *Kernel) app(name string) *lanes {
	k.mu.Lock()
	defer k.mu.Unlock()
	l := k.apps[name]
	if l == nil {
		l = new(lanes)
		k.apps[name] = l
	}
	return l
}

// Look reads who listens in this network namespace.
func (k *Kernel) Look() (*sockets.View, error) { return sockets.Look() }

// Owner names the unit that a control group's id belongs to, or else the group.
func (k *Kernel) Owner(cgroup uint64) string {
	group, ok := sockets.CgroupPath(cgroup)
	if !ok {
		return "a process without a unit"
	}
	unit := path.Base(group)
	for _, kind := range []string{".service", ".scope", ".socket"} {
		if strings.HasSuffix(unit, kind) {
			return unit
		}
	}
	return "a process in the control group " + group
}

// Steer sends new connections to the serving units only; see steering.Steer. If
// none of them listens, nothing changes.
func (k *Kernel) Steer(app string, v *sockets.View, serving, asked []systemd.Unit) error {
	l := k.app(app)
	err := l.steering.Steer(v, paths(serving), paths(asked))
	if errors.Is(err, steering.ErrNobody) {
		return nil
	}
	if err != nil {
		return err
	}
	if names := names(serving); names != l.serving {
		l.serving, l.since = names, time.Now()
	}
	return nil
}

// Release ends the steering of the groups that the units listen in, and the telling of
// their clients, also what a run before has left.
func (k *Kernel) Release(app string, us []systemd.Unit) error {
	l := k.app(app)
	for at := range l.doors {
		l.leave(at)
	}
	l.serving, l.draining, l.drain = "", nil, nil
	told := k.EndTell(app)
	if err := l.steering.Detach(); err != nil {
		return errors.Join(told, err)
	}
	return errors.Join(told, steering.Detach(paths(us)...))
}

// Pending counts the connections that the units still have since Steer began to send
// new ones to others: of all of them, and of each.
func (k *Kernel) Pending(app string, v *sockets.View, us []systemd.Unit) (all sockets.Work, each []sockets.Work, err error) {
	l := k.app(app)
	if l.drain == nil || !l.watches(us) {
		var groups []sockets.Group
		for _, path := range paths(us) {
			own, err := v.Groups(path)
			if err != nil {
				return all, nil, err
			}
			groups = append(groups, own...)
		}
		l.draining, l.drain = make(map[string]string), sockets.NewDrain(paths(us), groups, l.since)
		for _, u := range us {
			l.draining[u.Name] = u.ControlGroup
		}
	}
	if l.tells {
		l.drain.Telling()
	}
	if all, err = l.drain.Left(v); err != nil {
		return all, nil, err
	}
	for _, u := range us {
		each = append(each, l.drain.Of(l.draining[u.Name]))
	}
	return all, each, nil
}

// watches reports whether all of the units are among those that drain watches.
func (l *lanes) watches(us []systemd.Unit) bool {
	return !slices.ContainsFunc(us, func(u systemd.Unit) bool {
		_, watched := l.draining[u.Name]
		return !watched
	})
}

// Follow begins to follow the connections that Pending has counted to their end: those of
// the named units, or without names all that are left.
func (k *Kernel) Follow(app string, units ...string) {
	l := k.app(app)
	if l.drain == nil {
		return
	}
	var paths []string
	for _, name := range units {
		paths = append(paths, l.draining[name])
	}
	l.following = l.drain
	_ = l.drain.Follow(paths...) // what cannot be heard counts as it was last seen
}

// Settle counts the connections that are followed once more, and ends that.
func (k *Kernel) Settle(app string) (sockets.Work, bool) {
	l := k.app(app)
	drain := l.following
	if drain == nil {
		return sockets.Work{}, false
	}
	if l.following = nil; l.drain == drain {
		l.drain = nil
	}
	return drain.Settle(), true
}

// Paths returns the Unix sockets that each of the units listens on.
func (k *Kernel) Paths(us []systemd.Unit) ([][]sockets.Path, error) {
	return sockets.Paths(paths(us)...)
}

// Wrapped returns the process that keeps the stop signal from the server of a unit.
func (k *Kernel) Wrapped(v *sockets.View, u systemd.Unit, port int) (*sockets.Wrapper, error) {
	listeners, err := v.In(u.ControlGroup)
	if err != nil {
		return nil, err
	}
	listeners = slices.DeleteFunc(listeners, func(l sockets.Listener) bool { return port != 0 && int(l.Addr.Port()) != port })
	return sockets.Wrapped(u.ControlGroup, int(u.MainPID), int(u.KillSignal), listeners)
}

// Migrates reports whether the kernel moves queued connections to another listener
// of the group when one closes: net.ipv4.tcp_migrate_req, since Linux 5.14.
func (k *Kernel) Migrates() bool {
	on, err := ports.Migrates()
	return err == nil && on
}

// Used is the CPU time that a unit's processes have used, 0 if that cannot be told.
func (k *Kernel) Used(u systemd.Unit) time.Duration {
	if u.ControlGroup == "" {
		return 0
	}
	used, _ := sockets.CPUTime(u.ControlGroup)
	return used
}

// Counters returns the kernel's counters, or zeros if they cannot be read.
func (k *Kernel) Counters() sockets.Counters {
	c, _ := sockets.ReadCounters()
	return c
}

// paths returns the control groups of those units that have one.
func paths(us []systemd.Unit) []string {
	var paths []string
	for _, u := range us {
		if u.ControlGroup != "" {
			paths = append(paths, u.ControlGroup)
		}
	}
	return paths
}

func names(us []systemd.Unit) string {
	var names []string
	for _, u := range us {
		names = append(names, u.Name)
	}
	return strings.Join(names, " ")
}
