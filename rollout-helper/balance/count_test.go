package balance

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"app-rollout/rollout-helper/sockets/socktest"
)

// TestExact: after thousands of connections that ended in every way, in the middle of
// which instances were killed and came back, nothing is counted any more.
func TestExact(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	for _, migrate := range []string{"0", "1"} {
		for _, f := range families {
			t.Run(fmt.Sprintf("%s %s, tcp_migrate_req=%s", f.listen.Network, f.listen.Address, migrate), func(t *testing.T) {
				if err := os.WriteFile("/proc/sys/net/ipv4/tcp_migrate_req", []byte(migrate), 0); err != nil {
					t.Fatal(err)
				}
				g := newGround(t, 4, f.listen)
				g.keep()
				g.storm(f.clients, 2000, func() {
					for i := range 8 {
						g.restart(i % 4)
					}
				})
				g.none()
			})
		}
	}
}

// TestExactUnheard: connections that wait in a queue until the listener closes are
// taken off too, those that move to another listener with them.
func TestExactUnheard(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	g := newGround(t, 2, socktest.Listen{Network: "tcp4", Address: ipv4})
	g.keep()
	lazy := socktest.Cgroup(t, "lazy")
	for range 3 {
		server := socktest.Start(t, lazy, socktest.Config{Name: "lazy", Lazy: true, Listen: g.listen})
		g.storm([]string{ipv4}, 300, server.Kill)
	}
	g.none()
}

// storm makes n connections, each of which ends in one of the ways there are, and
// calls do beside them.
func (g *ground) storm(clients []string, n int, do func()) {
	g.Helper()
	const side = 8
	var all sync.WaitGroup
	for c := range side {
		all.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(c)))
			for range n / side {
				endSomehow(clients[random.IntN(len(clients))], random.IntN(5))
			}
		})
	}
	do()
	all.Wait()
}

// endSomehow makes one connection and ends it. What becomes of it does not matter.
func endSomehow(address string, how int) {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return
	}
	defer conn.Close()
	tcp := conn.(*net.TCPConn)
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	heard := make([]byte, 64)
	switch how {
	case 0: // asks, and ends by FIN
		fmt.Fprintln(conn, "who")
		conn.Read(heard)
	case 1: // asks, and resets
		fmt.Fprintln(conn, "who")
		conn.Read(heard)
		tcp.SetLinger(0)
	case 2: // leaves at once
	case 3: // resets without having listened
		fmt.Fprintln(conn, "who")
		tcp.SetLinger(0)
	case 4: // says that it will ask no more, and waits for the end
		fmt.Fprintln(conn, "5ms")
		tcp.CloseWrite()
		conn.Read(heard)
		conn.Read(heard)
	}
}

// TestFrozen: one of four that is stopped gets at most one of a hundred new requests,
// fresh and also where the others have a hundred connections that stay, and it has none.
func TestFrozen(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	for _, staying := range []int{0, 400} {
		t.Run(fmt.Sprint(staying), func(t *testing.T) {
			g := newGround(t, 4, socktest.Listen{Network: "tcp4", Address: ipv4})
			g.keep()
			_, leave := g.stay(ipv4, staying)
			defer leave()
			g.restart(1)
			g.servers[1].Freeze(t)
			hung := 0
			for range 400 {
				c, err := socktest.Connect(ipv4)
				if err != nil {
					t.Fatal(err)
				}
				c.Say("who")
				c.SetReadDeadline(time.Now().Add(3 * time.Second))
				if _, err := c.Read(make([]byte, 16)); err != nil {
					hung++
					defer c.Close() // it waits on
					continue
				}
				c.Close()
			}
			if hung == 0 || hung > 4 {
				t.Errorf("%d of 400 hang", hung)
			}
		})
	}
}

// TestBurst: connections that begin while those before them are not established yet do
// not all go to the one that has none.
func TestBurst(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	// They are established when the client says something.
	g := newGround(t, 4, socktest.Listen{Network: "tcp4", Address: ipv4, Deferred: true})
	g.keep()
	_, leave := g.stay(ipv4, 200)
	defer leave()
	g.restart(2)
	var clients []*socktest.Client
	for range 100 {
		c, err := socktest.Connect(ipv4)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		clients = append(clients, c)
	}
	counts := make(map[string]int)
	for _, c := range clients {
		if err := c.Say("who"); err != nil {
			t.Fatal(err)
		}
		name, err := c.Hear()
		if err != nil {
			t.Fatal(err)
		}
		counts[name]++
	}
	if counts["i002"] < 20 || counts["i002"] > 80 {
		t.Errorf("100 that begin at once: %v", counts)
	}
}

// TestMany: of more listeners than are all looked at, the better of two is taken. One
// that has nobody gets more than its share, and nobody gets many more than others.
func TestMany(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	g := newGround(t, 10, socktest.Listen{Network: "tcp4", Address: ipv4, Count: 10})
	g.keep()
	counts, leave := g.stay(ipv4, 1000)
	for name, n := range counts {
		if n < 80 || n > 120 {
			t.Errorf("%s has %d of 1000 connections", name, n)
		}
	}
	leave()
	g.none()
}
