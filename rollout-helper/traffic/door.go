package traffic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/systemd"
)

const (
	// patience is how long a connection that was just made is waited for. A process
	// that is waiting in accept() takes a fraction of that.
	patience = 20 * time.Millisecond
	// another is how long a connection must have waited for another one to be made,
	// if the unit has another listener in the group.
	another = time.Second
)

// place is where a unit is asked: one run of it, in one of its groups.
type place struct {
	unit, invocation string
	group            sockets.Group
}

// door is what is known of a place. Its connections stay open until one of them is
// accepted, over as many calls of Ask as that takes: to make a new one each time would
// fill the queue of a listener that nobody accepts from.
type door struct {
	listeners map[uint64]bool // the cookies of those that may have got the connections
	waiting   []net.Conn
	last      time.Time // when the last of them was made
	open      bool      // a process has accepted a connection
}

// accepts makes sure that a process of the unit accepts connections in each of the
// groups.
func (l *lanes) accepts(ctx context.Context, v *sockets.View, u systemd.Unit, groups []sockets.Group, dial dialer) error {
	for at := range l.doors {
		if at.unit == u.Name && at.invocation != u.Invocation {
			l.leave(at) // the unit was restarted
		}
	}
	for _, g := range groups {
		at := place{u.Name, u.Invocation, g}
		d := l.doors[at]
		if d == nil {
			d = &door{listeners: make(map[uint64]bool)}
			if l.doors == nil {
				l.doors = make(map[place]*door)
			}
			l.doors[at] = d
		}
		if err := d.knock(ctx, v, u, g, dial); err != nil {
			return err
		}
	}
	for _, g := range groups {
		l.leave(place{u.Name, u.Invocation, g})
	}
	return nil
}

// leave lets the connections at a place go.
func (l *lanes) leave(at place) {
	if d := l.doors[at]; d != nil {
		d.close()
		delete(l.doors, at)
	}
}

func (d *door) close() {
	for _, conn := range d.waiting {
		conn.Close()
	}
	d.waiting = nil
}

// knock sees whether one of the connections was accepted. It makes one if there is
// none, and one more if there has been none for long and the unit has more listeners.
func (d *door) knock(ctx context.Context, v *sockets.View, u systemd.Unit, g sockets.Group, dial dialer) error {
	if d.open {
		return nil
	}
	listeners, err := listenersIn(v, u, g)
	if err != nil {
		return err
	}
	if err := d.look(time.Millisecond, d.waiting); err != nil || d.open {
		return err
	}
	if n := len(d.waiting); n == 0 || n < len(listeners) && time.Since(d.last) > another {
		conn, err := dial(ctx, g)
		reset := errors.Is(err, unix.ECONNRESET) // after the handshake, before we could see that this was done
		if err != nil && !reset {
			return fmt.Errorf("does not take a connection on %s: %w", g, plain(err))
		}
		for _, one := range listeners {
			d.listeners[one.Cookie] = true
		}
		if reset {
			if err := d.wasReset(); err != nil || d.open {
				return err
			}
			return notAccepted(g)
		}
		// Nothing will be said: a process that reads learns that at once, and closes.
		// And a listener that waits for data (TCP_DEFER_ACCEPT) lets the connection in,
		// as it does with any packet but a bare ACK (tcp_check_req,
		// net/ipv4/tcp_minisocks.c). Should it fail, the next read says why.
		_ = conn.(*net.TCPConn).CloseWrite()
		d.waiting, d.last = append(d.waiting, conn), time.Now()
		if err := d.look(patience, []net.Conn{conn}); err != nil || d.open {
			return err
		}
	}
	if theirs, err := others(v, u, g, listeners, len(d.waiting)); err != nil {
		return err
	} else if theirs {
		if err := d.unlock(); err != nil || d.open {
			return err
		}
	}
	return notAccepted(g)
}

func notAccepted(g sockets.Group) error {
	return fmt.Errorf("listens on %s, but has not accepted the connection that was made to it", g)
}

// wasReset opens the door if a process has reset a connection, which it has accepted then:
// if all listeners that were asked stand, and nobody waits at them. The kernel resets what
// waits at a listener that closes and, if it is told to (net.ipv4.tcp_abort_on_overflow),
// what comes when its queue is full.
func (d *door) wasReset() error {
	stand, queued, err := standing(d.listeners)
	if err != nil || !stand || queued > 0 {
		return err
	}
	return d.unlock()
}

// unlock opens the door, since a connection was accepted, if all listeners that were asked
// stand. If one of them has closed, the kernel may have given what waited there to another
// instance (net.ipv4.tcp_migrate_req), and goes on calling it the unit's. Then all is asked
// anew.
func (d *door) unlock() error {
	stand, _, err := standing(d.listeners)
	if err != nil {
		return err
	}
	d.close()
	if d.open = stand; !stand {
		clear(d.listeners)
	}
	return nil
}

// look opens the door if one of the connections was accepted. It waits a moment for
// each of them. One that was reset is dropped.
func (d *door) look(moment time.Duration, conns []net.Conn) error {
	for _, conn := range slices.Clone(conns) {
		open, err := accepted(conn, moment)
		if errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) {
			d.waiting = slices.DeleteFunc(d.waiting, func(c net.Conn) bool { return c == conn })
			conn.Close()
			if err := d.wasReset(); err != nil || d.open {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if open {
			return d.unlock()
		}
	}
	return nil
}

// accepted waits a moment for a process to accept a connection, and reports whether
// one has. If the process has closed it since, the server's side may be gone, but the
// stream has an end: only a process ends it. While the connection waits in the
// listener's queue, the kernel can but reset it (inet_csk_listen_stop,
// net/ipv4/inet_connection_sock.c).
func accepted(conn net.Conn, moment time.Duration) (bool, error) {
	for pause, end := time.Millisecond, time.Now().Add(moment); ; pause *= 2 {
		if err := conn.SetReadDeadline(time.Now().Add(pause)); err != nil {
			return false, err
		}
		n, err := conn.Read(make([]byte, 1))
		if n > 0 || errors.Is(err, io.EOF) {
			return true, nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return false, err
		}
		if is, err := sockets.Accepted(conn); is || err != nil {
			return is, err
		}
		if !time.Now().Before(end) {
			return false, nil
		}
	}
}

// standing reports whether all of these listeners, by their cookies, listen still, and how
// many connections wait at them.
func standing(listeners map[uint64]bool) (all bool, queued int, err error) {
	v, err := sockets.Look()
	if err != nil {
		return false, 0, err
	}
	n := 0
	for _, l := range v.Listeners {
		if listeners[l.Cookie] {
			n++
			queued += int(l.Queued)
		}
	}
	return n == len(listeners), queued, nil
}

// others reports whether the unit has accepted a connection of somebody else's in the
// group. That is asked for only if others wait there too: then ours may have to wait
// for long, until a busy process has answered those before it.
func others(v *sockets.View, u systemd.Unit, g sockets.Group, listeners []sockets.Listener, ours int) (bool, error) {
	queued := 0
	for _, l := range listeners {
		queued += int(l.Queued)
	}
	if queued <= ours {
		return false, nil
	}
	ids, err := v.Cgroups(u.ControlGroup)
	if err != nil {
		return false, err
	}
	connections, err := sockets.Connections(g.Addr.Port())
	here := g.Addr.Addr().Unmap()
	return slices.ContainsFunc(connections, func(c sockets.Connection) bool {
		return c.Accepted && ids[c.Cgroup] && (here.IsUnspecified() || c.Local.Addr().Unmap() == here)
	}), err
}

// listenersIn are the unit's listeners in a group.
func listenersIn(v *sockets.View, u systemd.Unit, g sockets.Group) ([]sockets.Listener, error) {
	in, err := v.In(u.ControlGroup)
	return slices.DeleteFunc(in, func(l sockets.Listener) bool { return l.Group != g }), err
}

// Waiting returns the connections, by their cookies, that wait for a unit to accept
// them. Accepted is true if there is a connection that the unit has accepted.
func (k *Kernel) Waiting(v *sockets.View, u systemd.Unit) (waiting []uint64, accepted bool, err error) {
	in, err := v.In(u.ControlGroup)
	if err != nil {
		return nil, false, err
	}
	ids, err := v.Cgroups(u.ControlGroup)
	if err != nil {
		return nil, false, err
	}
	var ports []uint16
	for _, l := range in {
		ports = append(ports, l.Addr.Port())
	}
	slices.Sort(ports)
	connections, err := sockets.Connections(slices.Compact(ports)...)
	for _, c := range connections {
		switch {
		case c.HalfOpen || !ids[c.Cgroup]:
		case c.Accepted:
			return nil, true, nil
		default:
			waiting = append(waiting, c.Cookie)
		}
	}
	return waiting, false, err
}
