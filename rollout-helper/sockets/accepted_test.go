package sockets_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/sockets/socktest"
)

// TestAccepted: a connection is accepted from accept() on, and not before, whatever
// its client has done meanwhile. One with TCP_DEFER_ACCEPT comes into the queue when its
// client has closed it, though it has said nothing.
func TestAccepted(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	for i, l := range []socktest.Listen{
		{Network: "tcp4", Address: "127.0.0.1:8081"},
		{Network: "tcp6", Address: "[::1]:8082"},
		{Network: "tcp", Address: "[::]:8083"},
		{Network: "tcp4", Address: "127.0.0.1:8084", Deferred: true},
	} {
		cgroup := socktest.Cgroup(t, fmt.Sprint("server", i))
		server := socktest.Start(t, cgroup, socktest.Config{Name: "a", Lazy: true, Listen: []socktest.Listen{l}})
		id, err := sockets.CgroupID(cgroup)
		if err != nil {
			t.Fatal(err)
		}
		port := netip.MustParseAddrPort(l.Address).Port()
		target := strings.Replace(l.Address, "[::]", "127.0.0.1", 1)
		open, closed := connect(t, target), connect(t, target)
		if err := closed.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		is := func(what string, conn net.Conn, want bool) {
			t.Helper()
			if got, err := sockets.Accepted(conn); err != nil || got != want {
				t.Errorf("%s, %s: accepted is %v, %v, want %v", l.Address, what, got, err, want)
			}
		}
		queued := 2
		if l.Deferred {
			queued = 1
		}
		socktest.Eventually(t, "the connections are queued", func() bool {
			n, err := view(t).Queued(cgroup)
			return err == nil && n == queued
		})
		is("open and queued", open, false)
		is("closed and queued", closed, false)
		connections, err := sockets.Connections(port)
		if err != nil || len(connections) != 2 {
			t.Errorf("%s: %d connections, %v, want 2", l.Address, len(connections), err)
		}
		for _, c := range connections {
			if c.Accepted || !c.HalfOpen && (c.Cookie == 0 || c.Cgroup != id) {
				t.Errorf("%s: %+v, want one of control group %d that is not accepted", l.Address, c, id)
			}
		}
		server.Do(t, "accept")
		if !l.Deferred {
			socktest.Eventually(t, "the open one is accepted", func() bool {
				accepted, err := sockets.Accepted(open)
				return err == nil && accepted
			})
		}
		if _, err := closed.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("%s: the closed one ends with %v, want EOF", l.Address, err)
		}
		server.Kill()
		is("of a server that is gone", closed, false)
	}
}

// connect connects to a server that says nothing.
func connect(t *testing.T, target string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}
