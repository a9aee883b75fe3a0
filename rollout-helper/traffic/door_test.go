package traffic

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/sockets/socktest"
	"app-rollout/rollout-helper/systemd"
	"app-rollout/units"
)

func TestMain(m *testing.M) { socktest.Main(m) }

// address is where the servers of the tests listen.
const address = "127.0.0.1:8080"

// ground is one server as a unit of an app, asked by a kernel that steers or does not.
type ground struct {
	t      *testing.T
	kernel *Kernel
	server *socktest.Server
	unit   systemd.Unit
}

// onGround runs a test in both ways, with a server that listens in some ways.
func onGround(t *testing.T, config socktest.Config, listen socktest.Listen, test func(g *ground)) {
	listen.Network, listen.Address = "tcp4", address
	config.Listen = []socktest.Listen{listen}
	for _, steered := range []bool{false, true} {
		t.Run(fmt.Sprintf("%+v, steered %v", listen, steered), func(t *testing.T) {
			g := &ground{t: t, kernel: New()}
			g.server = socktest.Start(t, socktest.Cgroup(t, "server"), config)
			g.unit = systemd.Unit{Name: "shop@1.service", Invocation: "first", ControlGroup: g.server.Cgroup}
			if steered {
				if err := g.kernel.Steer("shop", look(t), []systemd.Unit{g.unit}, nil); err != nil {
					t.Fatal(err)
				}
			}
			test(g)
			if err := g.kernel.Release("shop", []systemd.Unit{g.unit}); err != nil {
				t.Error(err)
			}
			g.server.Kill()
		})
	}
}

func look(t *testing.T) *sockets.View {
	t.Helper()
	v, err := sockets.Look()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (g *ground) ask() error {
	g.t.Helper()
	return g.kernel.Ask(g.t.Context(), "shop", look(g.t), g.unit, nil, units.Plan{Port: 8080})
}

// refuses checks that the unit has not accepted yet, however often it is asked.
func (g *ground) refuses() {
	g.t.Helper()
	for range 5 {
		if err := g.ask(); err == nil || err.Error() != "listens on "+address+", but has not accepted the connection that was made to it" {
			g.t.Fatalf("nobody accepts, and the answer is: %v", err)
		}
	}
}

// answers waits until the unit has accepted.
func (g *ground) answers() {
	g.t.Helper()
	var why error
	defer func() {
		if g.t.Failed() {
			g.t.Log(why)
		}
	}()
	socktest.Eventually(g.t, "it is accepted", func() bool { why = g.ask(); return why == nil })
	if len(g.kernel.app("shop").doors) > 0 {
		g.t.Error("it is accepted, but more is waited for")
	}
}

func (g *ground) queued(want int) {
	g.t.Helper()
	socktest.Eventually(g.t, fmt.Sprintf("%d wait", want), func() bool {
		n, err := look(g.t).Queued(g.server.Cgroup)
		if err != nil {
			g.t.Fatal(err)
		}
		return n == want
	})
}

// TestAccepts: a unit answers as soon as one of its processes accepts, and not before.
// With TCP_DEFER_ACCEPT the kernel lets only a connection in on which something came.
func TestAccepts(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	for _, listen := range []socktest.Listen{{}, {Count: 3}, {Deferred: true}} {
		onGround(t, socktest.Config{}, listen, func(g *ground) {
			g.answers()
		})
		onGround(t, socktest.Config{Lazy: true}, listen, func(g *ground) {
			g.refuses()
			// The connections of tries that are vague whose they are wait too.
			if !listen.Deferred {
				g.queued(1)
			}
			g.server.Do(g.t, "accept")
			g.answers()
			g.queued(0)
		})
	}
}

// TestResets: who resets each connection has accepted it. The kernel resets those that
// wait at a listener that closes.
func TestResets(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	onGround(t, socktest.Config{Rude: true}, socktest.Listen{}, func(g *ground) { g.answers() })
	onGround(t, socktest.Config{Lazy: true}, socktest.Listen{}, func(g *ground) {
		v := look(g.t)
		g.refuses()
		g.server.Do(g.t, "close")
		if err := g.kernel.Ask(g.t.Context(), "shop", v, g.unit, nil, units.Plan{Port: 8080}); err == nil {
			g.t.Error("a connection that the kernel has reset is taken for accepted")
		}
	})
}

// TestResetAtOnce: a connection may be reset before connect(2) tells that there was one.
func TestResetAtOnce(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	reset := func(context.Context, sockets.Group) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", unix.ECONNRESET)}
	}
	group := sockets.Group{Addr: netip.MustParseAddrPort(address)}
	onGround(t, socktest.Config{Lazy: true}, socktest.Listen{}, func(g *ground) {
		v := look(g.t)
		d := &door{listeners: make(map[uint64]bool)}
		if err := d.knock(g.t.Context(), v, g.unit, group, reset); err != nil || !d.open {
			g.t.Errorf("a process has reset it, and the answer is: %v", err)
		}
		g.server.Do(g.t, "close")
		d = &door{listeners: make(map[uint64]bool)}
		if err := d.knock(g.t.Context(), v, g.unit, group, reset); err == nil || d.open {
			g.t.Error("a connection that the kernel has reset is taken for accepted")
		}
	})
}

// TestAcceptedByAnother: if the listener that was asked closes, the kernel gives what waits
// there to another instance. That this one answers proves nothing.
func TestAcceptedByAnother(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/tcp_migrate_req", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	for _, health := range []string{"", "/"} {
		onGround(t, socktest.Config{Lazy: true}, socktest.Listen{}, func(g *ground) {
			plan, v := units.Plan{Port: 8080, HealthPath: health}, look(g.t)
			asked := make(chan error, 1)
			ask := func() {
				ctx, cancel := context.WithTimeout(g.t.Context(), time.Second)
				defer cancel()
				asked <- g.kernel.Ask(ctx, "shop", v, g.unit, nil, plan)
			}
			go ask()
			g.queued(1)
			other := socktest.Start(g.t, socktest.Cgroup(g.t, "other"), socktest.Config{
				Name: "HTTP/1.1 204 No Content\r\n\r\n", Listen: []socktest.Listen{{Network: "tcp4", Address: address}}})
			if health == "" {
				if err := <-asked; err == nil {
					g.t.Fatal("nobody accepts, and it answers")
				}
			}
			g.server.Do(g.t, "close")
			if health == "" {
				socktest.Eventually(g.t, "the other one accepts", func() bool {
					connections, err := sockets.Connections(8080)
					return err == nil && (len(connections) == 0 || connections[0].Accepted)
				})
				go ask()
			}
			if err := <-asked; err == nil {
				g.t.Error("another instance's answer is taken for the unit's")
			} else {
				g.t.Log(err)
			}
			other.Kill()
		})
	}
}

// TestBusyAccepts: a unit whose queue is long has answered if it has accepted another
// client's connection. Only the first in the queue gets that far here.
func TestBusyAccepts(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	onGround(t, socktest.Config{Lazy: true}, socktest.Listen{}, func(g *ground) {
		for range 2 {
			client, err := socktest.Connect(address)
			if err != nil {
				g.t.Fatal(err)
			}
			defer client.Close()
		}
		g.refuses()
		g.queued(3)
		if waiting, accepted, err := g.kernel.Waiting(look(g.t), g.unit); len(waiting) != 3 || accepted || err != nil {
			g.t.Errorf("waiting %v, accepted %v, %v; want 3", waiting, accepted, err)
		}
		g.server.Do(g.t, "one")
		g.answers()
		if _, accepted, err := g.kernel.Waiting(look(g.t), g.unit); !accepted || err != nil {
			g.t.Errorf("accepted %v, %v", accepted, err)
		}
	})
}

// TestOtherListener: if nobody accepts at the listener that was asked, the unit's other
// one is asked too.
func TestOtherListener(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	onGround(t, socktest.Config{Lazy: true}, socktest.Listen{Count: 4}, func(g *ground) {
		g.refuses()
		g.queued(1)
		socktest.Eventually(g.t, "more are asked", func() bool {
			_ = g.ask()
			n, err := look(g.t).Queued(g.server.Cgroup)
			return err == nil && n == 2
		})
	})
}

// TestRestarted: what a unit was asked before its restart is forgotten.
func TestRestarted(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	onGround(t, socktest.Config{Lazy: true}, socktest.Listen{}, func(g *ground) {
		g.refuses()
		g.unit.Invocation = "second"
		g.refuses()
		if n := len(g.kernel.app("shop").doors); n != 1 {
			g.t.Errorf("%d connections are waited for", n)
		}
	})
}

// TestEachGroup: a unit that accepts on its port, and not in another group that all
// share, has not answered.
func TestEachGroup(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	cgroup := socktest.Cgroup(t, "two")
	socktest.Start(t, cgroup, socktest.Config{Name: "a", Listen: []socktest.Listen{{Network: "tcp4", Address: address}}})
	other := socktest.Start(t, cgroup, socktest.Config{Name: "b", Lazy: true, Listen: []socktest.Listen{{Network: "tcp4", Address: "127.0.0.1:9090"}}})
	k, u := New(), systemd.Unit{Name: "shop@1.service", ControlGroup: cgroup}
	shared, err := look(t).Groups(cgroup)
	if err != nil || len(shared) != 2 {
		t.Fatalf("%v, %v", shared, err)
	}
	ask := func() error {
		return k.Ask(t.Context(), "shop", look(t), u, shared, units.Plan{Port: 8080})
	}
	if err := ask(); err == nil || !strings.Contains(err.Error(), "listens on 127.0.0.1:9090, but has not accepted") {
		t.Errorf("%v", err)
	}
	other.Do(t, "accept")
	socktest.Eventually(t, "both have accepted", func() bool { return ask() == nil })
}
