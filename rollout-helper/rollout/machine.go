// Package rollout replaces the running generation of an app by another one.
// The steps are listed in rollout.go, in their order, and each has a file of its own.
// plan.go decides which instances start, stay and stop. recover.go and tidy.go put right
// what a run has left.
//
// Invariants, at every moment and after every fault:
//
//  1. Once an app has been ready, a complete ready generation serves it until
//     the app is stopped on purpose.
//  2. A new instance gets no connection before it has proved itself, as long
//     as another generation serves and the kernel can steer.
//  3. An old instance is told to stop only when nothing new can reach it and
//     what it has in hand is answered, or its drain time has passed.
//  4. Before the commit everything goes back; after it everything goes forward.
package rollout

import (
	"context"
	"sync"
	"time"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/systemd"
	"app-rollout/units"
)

// Systemd is PID 1, as far as a rollout needs it. See package systemd for what
// its results mean.
type Systemd interface {
	List(ctx context.Context, patterns ...string) ([]systemd.Unit, error)
	Units(ctx context.Context, patterns ...string) ([]systemd.Unit, error)
	Refresh(ctx context.Context, patterns ...string) ([]systemd.Unit, error)
	Start(ctx context.Context, unit string) (result string, err error)
	Stop(ctx context.Context, unit string) (result string, err error)
	Restart(ctx context.Context, unit string) (result string, err error)
	ResetFailed(ctx context.Context, unit string) error
	Reload(ctx context.Context) error
	Stopping(ctx context.Context) (bool, error)
}

// Traffic is the kernel, as far as a rollout needs it: who listens, whom a new
// connection reaches, and what is still in hand.
type Traffic interface {
	// Look reads who listens, and whose each listener is. The calls below that
	// take a view decide from that.
	Look() (*sockets.View, error)
	// Owner names the unit that a cgroup id belongs to.
	Owner(cgroup uint64) string

	// Steer lets new connections reach the serving units only, in every group
	// that they listen in; the asked ones can be reached by Ask. It is cheap
	// when nothing has changed. A steering.Unavailable says that this
	// machine, or these listeners, cannot be steered.
	Steer(app string, v *sockets.View, serving, asked []systemd.Unit) error
	// Ask asks one unit whether it answers: by an HTTP request on the plan's port if
	// the plan has a health path, which must be answered by 2xx or 3xx; else by a
	// connection there and in each of the shared groups, which a process of the unit
	// must accept. Where connections are steered, the unit must have been among the
	// serving or the asked ones of the last Steer. Ask waits for a moment only: as
	// long as nobody accepts, the connection is kept for the next call.
	Ask(ctx context.Context, app string, v *sockets.View, u systemd.Unit, shared []sockets.Group, plan units.Plan) error
	// Waiting returns the connections that wait for a unit to accept them, each with
	// a number of its own, and whether there is one that the unit has accepted.
	Waiting(v *sockets.View, u systemd.Unit) (waiting []uint64, accepted bool, err error)
	// Release ends all steering of the groups that the units listen in, all
	// asking, and all that Tell has begun.
	Release(app string, us []systemd.Unit) error
	// Balance has new connections between rollouts go to the unit with the least to
	// do, or, if not least, by the kernel's hash. It is to be called after Release. A
	// steering.Unavailable says that they cannot be balanced, and go by the hash.
	Balance(app string, us []systemd.Unit, least bool) error
	// Wrapped returns the process that keeps the stop signal from the server of a
	// unit, nil if none does; see sockets.Wrapped. With a port only who listens on
	// that counts.
	Wrapped(v *sockets.View, u systemd.Unit, port int) (*sockets.Wrapper, error)
	// Pending counts the connections that the units still have since they were cut
	// off from new ones: of all together, and of each by itself. Of none by itself it
	// knows what is half open and what has ended. It remembers what it saw of them, as
	// long as it is asked about the same units, or some of them.
	Pending(app string, v *sockets.View, us []systemd.Unit) (all sockets.Work, each []sockets.Work, err error)
	// Follow begins to follow the connections of the named units, which are about to be
	// told to stop, to their end; without names those of all that are left. Pending
	// counts them no more. Settle counts all that were followed once more, by what the
	// kernel has told of each at its end. It is false if none was.
	Follow(app string, units ...string)
	Settle(app string) (sockets.Work, bool)
	// Paths returns the Unix sockets that each of the units, all of which have a control
	// group, listens on under a name in the file system.
	Paths(us []systemd.Unit) ([][]sockets.Path, error)
	// PrepareTell begins what Tell needs, in the background.
	PrepareTell(app string)
	// Tell has the units' answers tell their kept-alive clients to close, from the next
	// request on, until Release. It is to be called at every look. A closing.ErrLate says
	// that it cannot be done yet, a steering.Unavailable that this machine cannot do it, a
	// closing.Partial that it is done, but not behind all network interfaces.
	Tell(app string, us []systemd.Unit) error
	// EndTell ends what Tell has begun.
	EndTell(app string) error
	// Told counts the clients that were told, and the answers that could not tell.
	Told(app string) (told, untold int)
	// Migrates says whether the kernel moves queued connections by itself when
	// a listener closes.
	Migrates() bool
	// Used is the CPU time that a unit's processes have used since it was started, 0 if it
	// has none or that cannot be told.
	Used(u systemd.Unit) time.Duration
	// Counters are the kernel's own, to be compared with later ones.
	Counters() sockets.Counters
}

// Machine is what rollouts act on.
type Machine struct {
	Layout  units.Layout
	Systemd Systemd
	Traffic Traffic
	Report  func(Event)

	batch *batch // of a run for several apps: see Each

	mu      sync.Mutex
	settled chan struct{}     // closed when the wait of awaitPorts is over; nil before it begins
	firsts  func() []newcomer // see newcomers; nil before it is first asked
	owners  map[int][]string  // see portOwners; nil before it is first asked
	failed  map[string]string // app → the digest of what has failed in this run and is not rejected
}

// How often a rollout looks. A look reads the listening sockets once, and asks
// systemd once, if the state of a unit matters.
const (
	tick       = 50 * time.Millisecond
	drainTick  = 20 * time.Millisecond
	bootTick   = 20 * time.Millisecond
	healthTick = time.Second
	askTimeout = 2 * time.Second
	// stopGrace is added to a unit's own stop time before its stop is given
	// up: systemd ends it with SIGKILL first.
	stopGrace = 15 * time.Second
)

// wait waits, but no longer than until the context is cancelled.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }
