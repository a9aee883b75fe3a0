package sockets

import (
	"maps"
	"net/netip"
	"time"
)

// Work is what instances that get no new connections still have in hand.
type Work struct {
	// HalfOpen are handshakes that began before the connections were steered
	// away. The kernel does not say whose they are, only that they are on the
	// instances' ports.
	HalfOpen int
	// Queued are connections that the instances have not accepted yet.
	Queued int
	// Owed are connections on which an answer is owed or being sent.
	Owed int
	// Idle are the other connections: they may be closed.
	Idle int
}

// InHand is how many connections would be lost if the instances were stopped now.
func (w Work) InHand() int { return w.HalfOpen + w.Queued + w.Owed }

// Drain watches instances empty themselves.
type Drain struct {
	paths []string
	ports []uint16
	since time.Time
	seen  map[[2]netip.AddrPort]progress
}

// progress is what was last seen of one connection.
type progress struct {
	sent, received uint64
	// sending is when the app was last seen to send more without having been
	// asked anything new.
	sending time.Time
}

// NewDrain watches the instances in the control groups at paths, on the ports
// of the groups that they listen in. Since is when new connections were steered
// away from them.
func NewDrain(paths []string, groups []Group, since time.Time) *Drain {
	d := &Drain{paths: paths, since: since}
	known := make(map[uint16]bool)
	for _, g := range groups {
		if port := g.Addr.Port(); !known[port] {
			known[port] = true
			d.ports = append(d.ports, port)
		}
	}
	return d
}

// Left tells what is left, from a View of now. Connection.Owed judges a
// connection by one moment; Left knows the look before too. Where the app went
// on sending without being asked anew, an answer is being sent in pieces, until
// nothing was sent for a second. At the first look any answer may be such a one.
func (d *Drain) Left(v *View) (Work, error) {
	var work Work
	ids := make(map[uint64]bool)
	for _, path := range d.paths {
		tree, err := v.Cgroups(path)
		if err != nil {
			return work, err
		}
		maps.Copy(ids, tree)
		in, err := v.In(path)
		if err != nil {
			return work, err
		}
		for _, l := range in {
			work.Queued += int(l.Queued)
		}
	}
	connections, err := Connections(d.ports...)
	if err != nil {
		return work, err
	}
	now := time.Now()
	work.count(connections, ids, now.Sub(d.since), d.remember(connections, ids, now))
	return work, nil
}

// remember notes the connections' progress, and returns those on which an
// answer is being sent.
func (d *Drain) remember(connections []Connection, ids map[uint64]bool, now time.Time) map[[2]netip.AddrPort]bool {
	seen := make(map[[2]netip.AddrPort]progress, len(d.seen))
	sending := make(map[[2]netip.AddrPort]bool)
	for _, c := range connections {
		if c.HalfOpen || !ids[c.Cgroup] {
			continue
		}
		key := [2]netip.AddrPort{c.Local, c.Remote}
		before, known := d.seen[key]
		next := progress{sent: c.BytesSent, received: c.BytesReceived, sending: before.sending}
		switch {
		case !known && c.BytesSent > 0:
			// Nobody saw what it answered: it may be in the middle of it.
			next.sending = now.Add(-c.LastSent)
		case known && c.BytesSent > before.sent && c.BytesReceived == before.received:
			next.sending = now
		}
		seen[key] = next
		sending[key] = now.Sub(next.sending) < quiet
	}
	d.seen = seen
	return sending
}

func (w *Work) count(connections []Connection, ids map[uint64]bool, steered time.Duration, sending map[[2]netip.AddrPort]bool) {
	for _, c := range connections {
		switch {
		case c.HalfOpen && c.Age >= steered:
			w.HalfOpen++
		case c.HalfOpen || !ids[c.Cgroup]:
		case c.Owed() || sending[[2]netip.AddrPort{c.Local, c.Remote}]:
			w.Owed++
		default:
			w.Idle++
		}
	}
}
