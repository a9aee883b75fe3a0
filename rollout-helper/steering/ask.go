package steering

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"

	"app-rollout/rollout-helper/sockets"

	"golang.org/x/sys/unix"
)

// ErrNotListening is the error of asking an instance that has no socket in the
// group, or none that Steer has seen yet.
var ErrNotListening = errors.New("it does not listen there")

// client is how the program names who asks (struct client in pick.c).
type client struct {
	Address        [16]byte
	Port, Protocol uint64
}

func newClient(from netip.AddrPort) client {
	c := client{Port: uint64(from.Port()), Protocol: unix.ETH_P_IPV6}
	if from.Addr().Is4() {
		c.Protocol = unix.ETH_P_IP
	}
	copy(c.Address[:], from.Addr().AsSlice())
	return c
}

// Dial connects to one instance through the port that all share: the program
// sends a source address and port of ours to a socket of that instance, and
// nobody else's connection there. Several sockets of one instance are asked in
// turn. The instance must have been serving or a candidate in a call of Steer
// since it began to listen.
//
// The connection comes from the address it goes to: from 127.0.0.1 if the group
// is 0.0.0.0, from ::1 if it is [::]. It is not another instance's: if the
// kernel says that it is, Dial fails.
func (s *Steering) Dial(ctx context.Context, id sockets.Group, path string) (net.Conn, error) {
	ids, err := sockets.Tree(path)
	if err != nil {
		return nil, err
	}
	// A port may still be in use by a connection before.
	for range 64 {
		var conn net.Conn
		conn, err = s.dial(ctx, id, ids)
		if err == nil {
			return conn, nil
		}
		if !errors.Is(err, unix.EADDRINUSE) && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return nil, err
		}
	}
	return nil, err
}

func (s *Steering) dial(ctx context.Context, id sockets.Group, ids map[uint64]bool) (conn net.Conn, err error) {
	if id.Device != 0 {
		return nil, &Unavailable{Reason: "the listener on " + id.String() + " is tied to a network interface"}
	}
	remove := func() {}
	defer func() { remove() }()
	target := Target(id)
	dialer := net.Dialer{
		KeepAlive: -1,
		// Binding here, not by LocalAddr, tells the port before the connection
		// begins.
		Control: func(_, _ string, raw syscall.RawConn) error {
			var bound netip.AddrPort
			var bindErr error
			if err := raw.Control(func(fd uintptr) { bound, bindErr = bind(int(fd), target.Addr()) }); err != nil {
				return err
			}
			if bindErr != nil {
				return bindErr
			}
			// The dialer may come here again, with another port.
			remove()
			var err error
			remove, err = s.rule(id, ids, bound)
			return err
		},
	}
	conn, err = dialer.DialContext(ctx, "tcp", target.String())
	if err != nil {
		return nil, err
	}
	if err := verify(conn, ids); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// Target is the address to dial to reach a group from this machine.
func Target(id sockets.Group) netip.AddrPort {
	address := id.Addr.Addr().Unmap()
	switch {
	case address == netip.IPv4Unspecified():
		address = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case address == netip.IPv6Unspecified() && (id.V6Only || haveIPv6Loopback()):
		address = netip.IPv6Loopback()
	case address == netip.IPv6Unspecified():
		address = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.AddrPortFrom(address, id.Addr.Port())
}

// haveIPv6Loopback says whether ::1 is there: net.ipv6.conf.lo.disable_ipv6=1
// takes it away, and leaves [::] to IPv4 clients.
func haveIPv6Loopback() bool {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.Bind(fd, &unix.SockaddrInet6{Addr: netip.IPv6Loopback().As16()}) == nil
}

// rule tells the program that the client asks the instance, until remove is
// called. The map's update is atomic.
func (s *Steering) rule(id sockets.Group, ids map[uint64]bool, from netip.AddrPort) (remove func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	none := func() {}
	g := s.groups[id]
	if g == nil {
		return none, fmt.Errorf("%s: %w", id, ErrNotListening)
	}
	var indexes []uint32
	for _, slot := range g.slots {
		if ids[slot.cgroup] {
			indexes = append(indexes, slot.index)
		}
	}
	if len(indexes) == 0 {
		return none, fmt.Errorf("%s: %w", id, ErrNotListening)
	}
	slices.Sort(indexes)
	asking, index := newClient(from), indexes[g.turn%len(indexes)]
	if err := g.ArAsks.Put(asking, index); err != nil {
		return none, unavailable("writing to a BPF map", err)
	}
	g.turn++
	g.asking[index]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.groups[id] != g {
			return
		}
		_ = g.ArAsks.Delete(asking)
		if g.asking[index]--; g.asking[index] == 0 {
			delete(g.asking, index)
		}
	}, nil
}

// verify asks the kernel whose the connection is. Where it cannot tell, the
// program's word stands.
func verify(conn net.Conn, ids map[uint64]bool) error {
	owner, found, err := sockets.Server(conn)
	if err != nil {
		return err
	}
	if found && !ids[owner] {
		name, ok := sockets.CgroupPath(owner)
		if !ok {
			name = "a control group that is gone"
		}
		return fmt.Errorf("%s answered on %s in its place", name, conn.RemoteAddr())
	}
	return nil
}

// bind binds to the address with a port that the kernel gives to no client by
// itself, so that no stranger comes with it, and returns both. If there is no
// such port, one that the kernel picks is ours alone all the same, as long as we
// hold it.
func bind(fd int, address netip.Addr) (netip.AddrPort, error) {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return netip.AddrPort{}, os.NewSyscallError("setsockopt", err)
	}
	_, last := sockets.ClientPorts()
	first := int(last) + 1
	port := 0
	if first <= 65535 {
		port = first + rand.IntN(65536-first)
	}
	var name unix.Sockaddr = &unix.SockaddrInet6{Addr: address.As16(), Port: port}
	if address.Is4() {
		name = &unix.SockaddrInet4{Addr: address.As4(), Port: port}
	}
	if err := unix.Bind(fd, name); err != nil {
		return netip.AddrPort{}, os.NewSyscallError("bind", err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, os.NewSyscallError("getsockname", err)
	}
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		port = name.Port
	case *unix.SockaddrInet6:
		port = name.Port
	}
	return netip.AddrPortFrom(address, uint16(port)), nil
}
