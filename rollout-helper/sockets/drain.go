package sockets

import (
	"time"
)

// Work is what instances that get no new connections still have: how many
// connections, by what would become of them if the instances were stopped now.
type Work struct {
	// HalfOpen are handshakes that began before the connections were steered
	// away. The kernel does not say whose they are, only that they are on the
	// instances' ports.
	HalfOpen int
	// Queued are connections that the instances have not accepted yet.
	Queued int
	// Owed are connections on which an answer is owed or being sent.
	Owed int
	// Streams are connections on which nothing is owed, but on which the app was seen to
	// send by itself: nobody had asked it, and for a second it had sent nothing.
	// WebSockets and server-sent events are such.
	Streams int
	// Idle are the other connections at rest. A kept-alive connection between two
	// requests and a WebSocket on which nothing moves look the same.
	Idle int
	// Recent are how many of the idle ones have been at rest for no more than a quarter of
	// a second, and on which nobody has asked since clients are told to close: they may be
	// about to ask, and will be told then. Who has asked since was told, or cannot be.
	Recent int
	// Ended are those that an earlier look has seen and that are gone.
	Ended int
}

// InHand is how many connections wait for something that the instances are about to
// do.
func (w Work) InHand() int { return w.HalfOpen + w.Queued + w.Owed }

// Open is how many connections there are.
func (w Work) Open() int { return w.InHand() + w.Streams + w.Idle }

// Plus is the work of both together.
func (w Work) Plus(o Work) Work {
	return Work{
		HalfOpen: w.HalfOpen + o.HalfOpen, Queued: w.Queued + o.Queued, Owed: w.Owed + o.Owed, Streams: w.Streams + o.Streams,
		Idle: w.Idle + o.Idle, Recent: w.Recent + o.Recent, Ended: w.Ended + o.Ended,
	}
}

// recent is how long ago something was said on a connection whose client may be about to
// ask again. Clients that are busy, such as a proxy under load, ask sooner.
const recent = 250 * time.Millisecond

// kind is what becomes of a connection whose instance is stopped now.
type kind int

const (
	queued kind = iota
	owed
	sending // an answer in pieces
	stream
	idle
)

func (w *Work) add(k kind) {
	switch k {
	case queued:
		w.Queued++
	case owed, sending:
		w.Owed++
	case stream:
		w.Streams++
	case idle:
		w.Idle++
	}
}

// Drain watches instances empty themselves.
type Drain struct {
	paths         []string
	ports         []uint16
	since         time.Time
	seen          map[uint64]progress // by the connection's cookie
	telling, told bool                // clients are told to close; they were at the last look
	last          Work                // what the last look has counted
	each          map[string]Work     // the same, by the instance's control group
	followed      map[string]bool     // the control groups of the instances that are told to stop
	parting       map[uint64]progress // their connections, as they were at the last look before that
	ends          *ends               // nil: what becomes of these cannot be heard
}

// progress is what was last seen of one connection.
type progress struct {
	sent, received uint64
	// sending is when the app was last seen to send more without having been
	// asked anything new.
	sending time.Time
	asked   bool // at rest, it was asked something since clients are told to close
	rested  bool // nothing was owed, and nothing had been sent for a second
	stream  bool // after a rest the app has sent more without having been asked
	kind    kind
	path    string // the control group of the instance
}

// NewDrain watches the instances in the control groups at paths, on the ports
// of the groups that they listen in. Since is when new connections were steered
// away from them.
func NewDrain(paths []string, groups []Group, since time.Time) *Drain {
	d := &Drain{paths: paths, since: since, followed: make(map[string]bool), parting: make(map[uint64]progress)}
	known := make(map[uint16]bool)
	for _, g := range groups {
		if port := g.Addr.Port(); !known[port] {
			known[port] = true
			d.ports = append(d.ports, port)
		}
	}
	return d
}

// Left tells what is left of those that are not followed. Whose a connection is, it takes
// from the View.
//
// One read of the kernel's table tells all: a connection that waits to be accepted
// is in it too. So none is missed because it is accepted between two reads. Nor can
// one slip from half open into the queue unseen: the kernel replaces the one by the
// other in the same bucket of its table (inet_ehash_insert), and reads a bucket under
// its lock.
func (d *Drain) Left(v *View) (Work, error) {
	whose := make(map[uint64]string)
	for _, path := range d.paths {
		tree, err := v.Cgroups(path)
		if err != nil {
			return Work{}, err
		}
		for id := range tree {
			whose[id] = path
		}
	}
	connections, err := Connections(d.ports...)
	if err != nil {
		return Work{}, err
	}
	return d.count(connections, whose, time.Now()), nil
}

// Of tells what the last call of Left has found of the instance in the control group at
// path. Of no instance alone it is known what is half open and what has ended.
func (d *Drain) Of(path string) Work { return d.each[path] }

// count sorts the connections by what they wait for. Connection.Owed judges one by
// one moment; count knows the look before too. Where the app went on sending without
// being asked anew, an answer is being sent in pieces, until nothing was sent for a
// second. Where it goes on after that, it is a stream, which has no end to wait for.
// Whose has the control group of the instance by the id of a control group in it.
func (d *Drain) count(connections []Connection, whose map[uint64]string, now time.Time) (work Work) {
	seen, each := make(map[uint64]progress, len(d.seen)), make(map[string]Work)
	for _, c := range connections {
		if c.HalfOpen && c.Age >= now.Sub(d.since) {
			work.HalfOpen++
		}
		path, ours := whose[c.Cgroup]
		if c.HalfOpen || !ours || d.followed[path] {
			continue
		}
		before, known := d.seen[c.Cookie]
		p, own := before.next(c, known, now), each[path]
		p.path = path
		p.asked = before.asked || d.told && known && before.kind == idle && c.BytesReceived > before.received
		switch {
		case !c.Accepted:
			p.kind = queued
		case c.Owed():
			p.kind = owed
		case p.stream:
			p.kind = stream
		case now.Sub(p.sending) < quiet:
			p.kind = sending
		default:
			p.kind = idle
			if !p.asked && min(c.LastSent, c.LastReceived) < recent {
				own.Recent++
			}
		}
		seen[c.Cookie] = p
		own.add(p.kind)
		each[path] = own
	}
	for _, own := range each {
		work = work.Plus(own)
	}
	work.Ended = d.last.Ended
	for cookie := range d.seen {
		if _, still := seen[cookie]; !still {
			work.Ended++
		}
	}
	// What came before the first look since then, may have come too early.
	d.seen, d.last, d.each, d.told = seen, work, each, d.telling
	return work
}

// Telling notes that clients are told to close, by the answer to their next request.
func (d *Drain) Telling() { d.telling = true }

// next is the progress of a connection at the next look; known is false at the first.
func (p progress) next(c Connection, known bool, now time.Time) progress {
	n := progress{sent: c.BytesSent, received: c.BytesReceived, sending: p.sending, stream: p.stream}
	switch {
	case !known && c.BytesSent > 0:
		// Nobody saw what it answered: it may be in the middle of it.
		n.sending = now.Add(-c.LastSent)
	case known && c.BytesSent > p.sent && c.BytesReceived == p.received:
		n.sending = now
		n.stream = p.stream || p.rested
	}
	n.rested = !c.Owed() && c.LastSent >= quiet
	return n
}
