package sockets

import (
	"fmt"
	"iter"
	"maps"
	"sync"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// The kernel's groups of sockets that have come to their end (linux/sock_diag.h), as
// bits: the first group is bit 0.
const (
	groupTCP4 = 1 << 0 // SKNLGRP_INET_TCP_DESTROY
	groupTCP6 = 1 << 2 // SKNLGRP_INET6_TCP_DESTROY
)

// ends hears of connections when the kernel forgets them, and how far each had come
// (sock_diag_broadcast_destroy, net/core/sock_diag.c). One that the app has closed, or
// that was closed because the app died, is forgotten when the client has acknowledged
// that.
type ends struct {
	conn   *netlink.Conn
	mu     sync.Mutex
	wanted map[uint64]bool       // the cookies of those that it is asked about
	last   map[uint64]Connection // by cookie
}

// hearEnds begins to hear of connections; want says which.
func hearEnds() (*ends, error) {
	conn, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, &netlink.Config{Groups: groupTCP4 | groupTCP6})
	if err != nil {
		return nil, fmt.Errorf("sock_diag: %w", err)
	}
	e := &ends{conn: conn, wanted: make(map[uint64]bool), last: make(map[uint64]Connection)}
	go func() {
		for {
			// It fails when it is closed, or if the kernel tells more than can be read:
			// what is not heard counts as it was last seen.
			messages, err := conn.Receive()
			if err != nil {
				return
			}
			for _, m := range messages {
				if r, err := parseRow(m.Data); err == nil {
					e.hear(r)
				}
			}
		}
	}()
	return e, nil
}

func (e *ends) hear(r row) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.wanted[r.cookie] {
		e.last[r.cookie] = connection(r)
	}
}

// want has the ends of these connections noted.
func (e *ends) want(cookies iter.Seq[uint64]) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for cookie := range cookies {
		e.wanted[cookie] = true
	}
}

func (e *ends) of(cookie uint64) (c Connection, heard bool) {
	if e == nil {
		return c, false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	c, heard = e.last[cookie]
	return c, heard
}

// Follow begins to follow the connections of the last look to their end: those of the
// instances in the control groups at paths, which are about to be told to stop, or without
// paths those of all instances. Left counts them no more. If it fails, Settle counts them
// as they were last seen.
func (d *Drain) Follow(paths ...string) (err error) {
	if len(paths) == 0 {
		paths = d.paths
	}
	if d.ends == nil {
		d.ends, err = hearEnds()
	}
	if d.ends != nil {
		d.ends.want(maps.Keys(d.seen))
	}
	for _, path := range paths {
		d.followed[path] = true
		delete(d.each, path)
	}
	for cookie, p := range d.seen {
		if d.followed[p.path] {
			d.parting[cookie] = p
			delete(d.seen, cookie)
		}
	}
	return err
}

// farewell is how long the clients on this machine and near it may take to acknowledge
// the end of a connection.
const farewell = 200 * time.Millisecond

// Settle counts the connections that are followed once more, by what the kernel has told
// of each at its end: it may have been answered after the last look, or been asked
// something. It ends what Follow began.
func (d *Drain) Settle() Work {
	if d.ends != nil {
		defer d.ends.conn.Close()
	}
	work := Work{HalfOpen: d.last.HalfOpen, Ended: d.last.Ended}
	deadline := time.Now().Add(farewell)
	for cookie, p := range d.parting {
		c, heard := d.ends.of(cookie)
		for d.ends != nil && p.kind < stream && !heard && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
			c, heard = d.ends.of(cookie)
		}
		k, answered := p.kind, false
		if heard {
			k, answered = p.end(c)
		}
		if answered {
			work.Ended++
		} else {
			work.add(k)
		}
	}
	return work
}

// end is what became of a connection that was like p at the last look, and like c at
// its end. It is answered if an answer was owed and the app had the last word.
func (p progress) end(c Connection) (k kind, answered bool) {
	// The FIN of either side counts as one byte.
	read, spoke := c.ReadQueue <= 1, c.WriteQueue <= 1 && c.BytesSent > 0 && c.LastSent <= c.LastReceived
	switch {
	case c.BytesSent == 0 && c.BytesReceived <= 1:
		return idle, false // nothing was ever asked
	case p.kind == sending:
		return sending, false // nobody can tell whether it was complete
	case read && spoke:
		return p.kind, p.kind < sending
	case read && p.kind > sending && c.BytesSent > p.sent:
		return p.kind, false // both said goodbye, as on a WebSocket
	}
	return owed, false
}
