// Package traffic is what a rollout asks of the kernel. It puts together package
// sockets, which only reads, and package steering, which decides whom a new
// connection reaches.
package traffic

import (
	"context"
	"errors"
	"net"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"app-rollout/rollout-helper/ports"
	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/steering"
	"app-rollout/rollout-helper/systemd"
	"app-rollout/units"
)

// Kernel is this machine's kernel. Each app is steered by itself.
type Kernel struct {
	mu   sync.Mutex
	apps map[string]*lanes
}

// lanes are one app's connections.
type lanes struct {
	steering steering.Steering
	serving  string    // the names of the units that are steered to
	since    time.Time // when that began
	draining string    // the names of the units that drain watches
	drain    *sockets.Drain
}

// New returns the kernel, with nothing steered yet.
func New() *Kernel { return &Kernel{apps: make(map[string]*lanes)} }

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

// Release ends the steering of the groups that the units listen in, also one that
// a run before has left.
func (k *Kernel) Release(app string, us []systemd.Unit) error {
	l := k.app(app)
	l.serving, l.draining, l.drain = "", "", nil
	if err := l.steering.Detach(); err != nil {
		return err
	}
	return steering.Detach(paths(us)...)
}

// Pending counts the connections that the units still have since Steer began to send
// new ones to others.
func (k *Kernel) Pending(app string, v *sockets.View, us []systemd.Unit) (sockets.Work, error) {
	l := k.app(app)
	if names := names(us); l.drain == nil || names != l.draining {
		var groups []sockets.Group
		for _, path := range paths(us) {
			own, err := v.Groups(path)
			if err != nil {
				return sockets.Work{}, err
			}
			groups = append(groups, own...)
		}
		l.draining, l.drain = names, sockets.NewDrain(paths(us), groups, l.since)
	}
	return l.drain.Left(v)
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

// Ask makes one connection to one unit, on each steered group of the plan's port
// (0: of any port), and one HTTP request there if there is a health path.
func (k *Kernel) Ask(ctx context.Context, app string, v *sockets.View, u systemd.Unit, plan units.Plan) error {
	own, err := reachable(v, u)
	if err != nil {
		return err
	}
	s := &k.app(app).steering
	steered := slices.DeleteFunc(s.Groups(), func(g sockets.Group) bool { return !slices.Contains(own, g) })
	return ask(ctx, steered, func(ctx context.Context, g sockets.Group) (net.Conn, error) {
		return s.Dial(ctx, g, u.ControlGroup)
	}, plan)
}

const (
	// dialTime is far more than a handshake on this machine takes, and far less
	// than until a client repeats itself to a listener whose queue is full.
	dialTime = 200 * time.Millisecond
	// redial is the pause between two tries, so that the other instances are not
	// kept busy.
	redial = 3 * time.Millisecond
	// vague is how many connections may have no owner that the kernel tells
	// before one of them is used all the same. With TCP_DEFER_ACCEPT none has
	// one, until something is asked on it.
	vague = 5
)

// Reach is Ask without steering: it connects until the kernel picks a listener of
// the unit's. The other instances get connections on which nothing is asked. Where
// the kernel cannot tell whose a connection is, it is used, whoever has it. Without
// a port only the shared groups are asked, for others may not speak HTTP.
func (k *Kernel) Reach(ctx context.Context, v *sockets.View, u systemd.Unit, shared []sockets.Group, plan units.Plan) error {
	own, err := reachable(v, u)
	if err != nil {
		return err
	}
	if plan.Port == 0 {
		own = slices.DeleteFunc(own, func(g sockets.Group) bool { return !slices.Contains(shared, g) })
	}
	ids, err := v.Cgroups(u.ControlGroup)
	if err != nil {
		return err
	}
	dialer := net.Dialer{KeepAlive: -1, Timeout: dialTime}
	return ask(ctx, own, func(ctx context.Context, g sockets.Group) (net.Conn, error) {
		for nobodys := 0; ; {
			conn, err := dialer.DialContext(ctx, "tcp", steering.Target(g).String())
			switch {
			case err == nil:
				owner, found, err := sockets.Server(conn)
				if err != nil {
					conn.Close()
					return nil, err
				}
				if !found {
					nobodys++
				}
				if found && ids[owner] || nobodys == vague {
					return conn, nil
				}
				conn.Close()
			case !errors.Is(err, os.ErrDeadlineExceeded):
				return nil, err
			}
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(redial):
			}
		}
	}, plan)
}

// reachable returns the groups of a unit that can be reached from here, each once.
// If it has groups, but none of them can, the error is a steering.Unavailable.
func reachable(v *sockets.View, u systemd.Unit) ([]sockets.Group, error) {
	all, err := v.Groups(u.ControlGroup)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		elsewhere, err := v.Elsewhere(u.ControlGroup)
		if err == nil && elsewhere {
			err = &steering.Unavailable{Reason: "it listens in another network namespace"}
		}
		return nil, err
	}
	near := slices.DeleteFunc(slices.Clone(all), func(g sockets.Group) bool { return g.Device != 0 })
	if len(near) == 0 {
		return nil, &steering.Unavailable{Reason: "the listener on " + all[0].String() + " is tied to a network interface"}
	}
	return near, nil
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
