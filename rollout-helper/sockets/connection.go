package sockets

import (
	"net"
	"net/netip"
	"time"
)

// Connection is one TCP connection at the server's side, with what tcp_info
// (linux/tcp.h) tells of it.
type Connection struct {
	Local, Remote netip.AddrPort
	// Cookie names the socket for as long as the machine is up; 0 while half open.
	Cookie uint64
	// Accepted is true once a process has accepted it: from then on the kernel shows
	// an inode for it.
	Accepted bool
	// Cgroup is the control group of the listener that took it; 0 while half
	// open, when the kernel does not say.
	Cgroup uint64
	// HalfOpen is true while the handshake is not done (SYN_RECV). Such a
	// connection has an Age, give or take a retransmission, and nothing else.
	HalfOpen bool
	Age      time.Duration
	// ReadQueue is what the app has not read yet, WriteQueue what the client has
	// not acknowledged yet, in bytes.
	ReadQueue, WriteQueue uint32
	// BytesSent and BytesReceived count the data of the connection's life.
	BytesSent, BytesReceived uint64
	// LastSent and LastReceived are how long ago data went and came; both begin
	// to count when the connection is made.
	LastSent, LastReceived time.Duration
}

// Connections returns the connections to the local ports (0: to any), half-open ones
// included. Those that the app itself has closed are left out, for they need
// the app no more.
func Connections(ports ...uint16) ([]Connection, error) {
	var connections []Connection
	for _, port := range ports {
		rows, err := dump(query{
			states: 1<<stateEstablished | 1<<stateCloseWait | 1<<stateSynRecv,
			port:   port,
			info:   true,
		})
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			connections = append(connections, connection(r))
		}
	}
	return connections, nil
}

func connection(r row) Connection {
	c := Connection{Local: r.local, Remote: r.remote, Cgroup: r.cgroup}
	if r.state == stateSynRecv {
		c.HalfOpen = true
		c.Age = age(r)
		return c
	}
	c.Cookie, c.Accepted = r.cookie, r.accepted()
	c.ReadQueue, c.WriteQueue = r.rqueue, r.wqueue
	c.BytesSent = r.infoUint64(infoBytesSent)
	c.BytesReceived = r.infoUint64(infoBytesReceived)
	c.LastSent = time.Duration(r.infoUint32(infoLastSent)) * time.Millisecond
	c.LastReceived = time.Duration(r.infoUint32(infoLastReceived)) * time.Millisecond
	if r.state == stateCloseWait {
		// The client's FIN takes one number of the sequence and is counted as
		// a byte received and, until the app reads the end, as one to read.
		c.BytesReceived -= min(c.BytesReceived, 1)
		c.ReadQueue -= min(c.ReadQueue, 1)
	}
	return c
}

// age is how long ago the SYN of a half-open connection came, as its timer
// tells: that is set to one second (TCP_TIMEOUT_INIT), and to twice as long each
// time it expires.
func age(r row) time.Duration {
	total := time.Second<<(min(r.retransmits, 16)+1) - time.Second
	return max(0, total-r.expires)
}

// quiet is how long nothing must have moved for an ambiguous connection to be
// taken as idle.
const quiet = time.Second

// Owed reports whether an answer is owed on the connection, so that to close it
// now would lose a request. The kernel does not know requests. Who had the last
// word tells it. An answer is owed if
//
//   - there is data that the app has not read or the client has not
//     acknowledged, or
//   - something was received, and nothing ever sent, or
//   - something was received after the last that was sent, or
//   - both happened within one tick of the kernel's clock, less than a second
//     ago, or
//   - the connection is younger than a second and nothing was said: a fresh
//     client is about to ask.
//
// A half-open connection owes nothing yet.
func (c Connection) Owed() bool {
	switch {
	case c.HalfOpen:
		return false
	case c.ReadQueue > 0 || c.WriteQueue > 0:
		return true
	case c.BytesReceived == 0:
		return c.BytesSent == 0 && c.LastReceived < quiet
	case c.BytesSent == 0:
		return true
	case c.LastReceived == c.LastSent:
		return c.LastReceived < quiet
	}
	return c.LastReceived < c.LastSent
}

// arrival is how long the last packet of a handshake may take from here to a
// server on the same machine.
const arrival = 20 * time.Millisecond

// Server returns the control group of the listener that took a connection of
// ours to this machine. Found is false if the server has closed the connection by
// now, or waits for data before it counts as made (TCP_DEFER_ACCEPT).
func Server(conn net.Conn) (cgroup uint64, found bool, err error) {
	ours := conn.LocalAddr().(*net.TCPAddr).AddrPort()
	theirs := conn.RemoteAddr().(*net.TCPAddr).AddrPort()
	for deadline := time.Now().Add(arrival); ; time.Sleep(time.Millisecond) {
		if cgroup, found, err = Owner(theirs, ours); err != nil || found || time.Now().After(deadline) {
			return cgroup, found, err
		}
	}
}

// Accepted reports whether a process has accepted a connection of ours to this
// machine. A connection that waits in its listener's queue belongs to no process, and
// the kernel shows no inode of it (inet_csk_accept, net/ipv4/inet_connection_sock.c;
// inet_diag_msg_attrs_fill, net/ipv4/inet_diag.c). One that the process has closed
// has none either. It is in a state that it comes to only by that, until it is gone:
// then Accepted is false, and only the client's end tells.
func Accepted(conn net.Conn) (bool, error) {
	r, found, err := between(conn.RemoteAddr().(*net.TCPAddr).AddrPort(), conn.LocalAddr().(*net.TCPAddr).AddrPort())
	return found && r.accepted(), err
}

// accepted reports whether a process has accepted the connection.
func (r row) accepted() bool {
	switch r.state {
	case stateEstablished, stateCloseWait:
		return r.inode != 0
	case stateFinWait1, stateFinWait2, stateTimeWait, stateLastAck, stateClosing:
		return true
	}
	return false // half open, or the listener itself
}

// between returns the server's side of the connection between the two addresses,
// local being the server's.
func between(local, remote netip.AddrPort) (r row, found bool, err error) {
	// A dual-stack listener's IPv4 connections are IPv6 sockets, which the kernel
	// finds by their IPv4 addresses.
	unmap := func(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
	return find(unmap(local), unmap(remote))
}

// Owner returns the control group of the listener that took the connection
// between the two addresses, local being the server's. Found is false if there is
// no such connection, or its handshake is not done.
func Owner(local, remote netip.AddrPort) (cgroup uint64, found bool, err error) {
	r, found, err := between(local, remote)
	if err != nil || !found {
		return 0, false, err
	}
	switch r.state {
	case stateEstablished, stateCloseWait, stateFinWait1, stateFinWait2:
		return r.cgroup, r.cgroup != 0, nil
	}
	return 0, false, nil
}
