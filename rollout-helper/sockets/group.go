package sockets

import (
	"net/netip"
	"strconv"
)

// Group is what the kernel looks up to find a listener, and so what one
// steering program serves: a family and address, a port and, seldom, more. All
// sockets of a group share its port. 0.0.0.0 and [::] are two groups, although
// the same clients may reach both.
//
// The fields are those that inet_reuseport_add_sock (net/ipv4/inet_hashtables.c)
// compares. It compares the user too, but a socket of another user cannot be bound
// in the group.
type Group struct {
	// Addr is where the listener is bound. An IPv4 address in IPv6 form
	// (::ffff:127.0.0.1) is left in that form: it is an IPv6 socket.
	Addr netip.AddrPort
	// V6Only is true for an IPv6 listener that takes no IPv4 client.
	V6Only bool
	// Device is the index of the interface that the listener is tied to
	// (SO_BINDTODEVICE, or a link-local address), 0 for none.
	Device uint32
}

// String returns the group as a person would write it: [::]:8080.
func (g Group) String() string {
	s := g.Addr.String()
	if g.V6Only && g.Addr.Addr().IsUnspecified() {
		s += " (IPv6 only)"
	}
	if g.Device != 0 {
		s += " (interface " + strconv.FormatUint(uint64(g.Device), 10) + ")"
	}
	return s
}

// Overlaps reports whether one client may reach a listener of either group: whether the
// kernel lets only sockets of one user that all set SO_REUSEPORT be bound in both (see
// ipv4_rcv_saddr_equal and ipv6_rcv_saddr_equal in net/ipv4/inet_connection_sock.c).
func (g Group) Overlaps(other Group) bool {
	if g.Addr.Port() != other.Addr.Port() || g.Device != 0 && other.Device != 0 && g.Device != other.Device {
		return false
	}
	a, b := g.Addr.Addr().Unmap(), other.Addr.Addr().Unmap()
	if a.Is4() != b.Is4() {
		// An IPv6 listener on all addresses takes IPv4 clients too, unless it says not.
		return a.Is6() && a.IsUnspecified() && !g.V6Only || b.Is6() && b.IsUnspecified() && !other.V6Only
	}
	return a == b || a.IsUnspecified() || b.IsUnspecified()
}

// Compare orders groups by address and port, for lists that people read.
func (g Group) Compare(other Group) int {
	if c := g.Addr.Compare(other.Addr); c != 0 {
		return c
	}
	if g.V6Only != other.V6Only {
		if g.V6Only {
			return 1
		}
		return -1
	}
	return int(g.Device) - int(other.Device)
}
