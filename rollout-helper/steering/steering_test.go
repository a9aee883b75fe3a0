package steering

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/sockets/socktest"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { socktest.Main(m) }

const address = "127.0.0.1:8080"

// listenOn is a server's configuration that listens on addresses of one network.
func listenOn(network string, addresses ...string) []socktest.Listen {
	var listen []socktest.Listen
	for _, a := range addresses {
		listen = append(listen, socktest.Listen{Network: network, Address: a})
	}
	return listen
}

// instance starts a server named as its control group.
func instance(t testing.TB, name string, listen []socktest.Listen) *socktest.Server {
	t.Helper()
	return socktest.Start(t, socktest.Cgroup(t, name), socktest.Config{Name: name, Listen: listen})
}

// look is who listens now.
func look(t testing.TB) *sockets.View {
	t.Helper()
	v, err := sockets.Look()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func steer(t testing.TB, s *Steering, serving, candidates []string) {
	t.Helper()
	if err := s.Steer(look(t), serving, candidates); err != nil {
		t.Fatalf("Steer: %v (%v)", err, errors.Unwrap(err))
	}
}

// only fails unless all of n connections are answered by one of the names, and
// each of these answers one.
func only(t testing.TB, address string, n int, names ...string) {
	t.Helper()
	counts := socktest.Count(t, address, n)
	if got := slices.Sorted(maps.Keys(counts)); !slices.Equal(got, names) {
		t.Errorf("%s: answers by %v, want by %v", address, counts, names)
	}
}

// dial asks an instance its name.
func dial(t testing.TB, s *Steering, group sockets.Group, path string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := s.Dial(ctx, group, path)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	client := socktest.NewClient(conn)
	if err := client.Say("who"); err != nil {
		return "", err
	}
	return client.Hear()
}

// askEach asks each instance its name, often, in each group.
func askEach(t *testing.T, s *Steering, paths []string) {
	t.Helper()
	for _, group := range s.Groups() {
		for range 20 {
			for _, path := range paths {
				name, err := dial(t, s, group, path)
				if err != nil || !strings.HasSuffix(path, "/"+name) {
					t.Fatalf("asked %s on %s: %q, %v", path, group, name, err)
				}
			}
		}
	}
}

// TestHoldShiftAskDetach goes the whole way of a rollout, for each kind of
// listener, as seen by each kind of client.
func TestHoldShiftAskDetach(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	for i, test := range []struct {
		name    string
		listen  []socktest.Listen
		clients []string
	}{
		{"IPv4, all addresses", listenOn("tcp4", "0.0.0.0:%d"), []string{"127.0.0.1:%d"}},
		{"IPv4, one address", listenOn("tcp4", "127.0.0.1:%d"), []string{"127.0.0.1:%d"}},
		{"IPv6, all addresses", listenOn("tcp6", "[::]:%d"), []string{"[::1]:%d"}},
		{"IPv6, one address", listenOn("tcp6", "[::1]:%d"), []string{"[::1]:%d"}},
		{"dual-stack", listenOn("tcp", "[::]:%d"), []string{"[::1]:%d", "127.0.0.1:%d"}},
		{"IPv4 and IPv6 apart", append(listenOn("tcp4", "0.0.0.0:%d"), listenOn("tcp6", "[::]:%d")...), []string{"[::1]:%d", "127.0.0.1:%d"}},
		{"several listeners each", []socktest.Listen{{Network: "tcp4", Address: "0.0.0.0:%d", Count: 4}}, []string{"127.0.0.1:%d"}},
		{"two ports", listenOn("tcp4", "0.0.0.0:%d", "0.0.0.0:1%d"), []string{"127.0.0.1:%d", "127.0.0.1:1%d"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			port := 8000 + i
			for i := range test.listen {
				test.listen[i].Address = fmt.Sprintf(test.listen[i].Address, port)
			}
			for i := range test.clients {
				test.clients[i] = fmt.Sprintf(test.clients[i], port)
			}
			each := func(names ...string) {
				t.Helper()
				for _, client := range test.clients {
					only(t, client, 100, names...)
				}
			}
			var s Steering
			defer s.Detach()
			old1, old2 := instance(t, "old1", test.listen), instance(t, "old2", test.listen)
			old := []string{old1.Cgroup, old2.Cgroup}
			each("old1", "old2")

			steer(t, &s, old, nil)
			if groups := s.Groups(); len(groups) != len(test.listen) {
				t.Errorf("steered %v, want %d groups", groups, len(test.listen))
			}
			new1, new2 := instance(t, "new1", test.listen), instance(t, "new2", test.listen)
			fresh := []string{new1.Cgroup, new2.Cgroup}
			each("old1", "old2")
			if _, err := dial(t, &s, s.Groups()[0], new1.Cgroup); !errors.Is(err, ErrNotListening) {
				t.Errorf("asked before it was known: %v", err)
			}

			steer(t, &s, old, fresh)
			each("old1", "old2")
			askEach(t, &s, slices.Concat(old, fresh))
			each("old1", "old2")

			steer(t, &s, fresh, old)
			each("new1", "new2")
			steer(t, &s, old, fresh) // back
			each("old1", "old2")
			steer(t, &s, fresh, old)
			each("new1", "new2")

			if err := s.Detach(); err != nil {
				t.Fatal(err)
			}
			each("new1", "new2", "old1", "old2")
		})
	}
}

// TestTakenOff: a switch holds even if somebody took the program off the group
// meanwhile.
func TestTakenOff(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	listen := listenOn("tcp4", "127.0.0.1:8080")
	old, fresh := instance(t, "old", listen), instance(t, "new", listen)
	var s Steering
	defer s.Detach()
	steer(t, &s, []string{old.Cgroup}, []string{fresh.Cgroup})
	only(t, "127.0.0.1:8080", 100, "old")

	if err := Detach(old.Cgroup); err != nil {
		t.Fatal(err)
	}
	only(t, "127.0.0.1:8080", 100, "new", "old")
	steer(t, &s, []string{fresh.Cgroup}, []string{old.Cgroup})
	only(t, "127.0.0.1:8080", 100, "new")
}

// TestAskRule looks at the rule itself: who is sent to the held instance while it
// is asked, and who is not.
func TestAskRule(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	listen := listenOn("tcp", "[::]:8080")
	var s Steering
	old, fresh := instance(t, "old", listen), instance(t, "new", listen)
	steer(t, &s, []string{old.Cgroup}, []string{fresh.Cgroup})
	ids, err := sockets.Tree(fresh.Cgroup)
	if err != nil {
		t.Fatal(err)
	}
	group := s.Groups()[0]
	who := func(source, target string) string {
		t.Helper()
		local := net.TCPAddrFromAddrPort(addrPort(source))
		conn, err := (&net.Dialer{LocalAddr: local}).Dial("tcp", target)
		if err != nil {
			t.Fatal(err)
		}
		conn.(*net.TCPConn).SetLinger(0)
		defer conn.Close()
		client := socktest.NewClient(conn)
		if err := client.Say("who"); err != nil {
			t.Fatal(err)
		}
		name, err := client.Hear()
		if err != nil {
			t.Fatal(err)
		}
		return name
	}
	for _, test := range []struct {
		rule, source, target, want string
	}{
		{"127.0.0.1:61001", "127.0.0.1:61001", "127.0.0.1:8080", "new"},
		{"127.0.0.1:61001", "127.0.0.1:61002", "127.0.0.1:8080", "old"},
		{"127.0.0.1:61001", "127.0.0.1:61000", "127.0.0.1:8080", "old"},
		{"127.0.0.1:61001", "127.0.0.2:61001", "127.0.0.1:8080", "old"},
		{"127.0.0.1:61001", "[::1]:61001", "[::1]:8080", "old"},
		{"[::1]:61001", "[::1]:61001", "[::1]:8080", "new"},
		{"[::1]:61001", "[::1]:61002", "[::1]:8080", "old"},
		{"[::1]:61001", "127.0.0.1:61001", "127.0.0.1:8080", "old"},
	} {
		remove, err := s.rule(group, ids, addrPort(test.rule))
		if err != nil {
			t.Fatal(err)
		}
		if got := who(test.source, test.target); got != test.want {
			t.Errorf("while %s asks new, %s is answered by %s, want %s", test.rule, test.source, got, test.want)
		}
		remove()
		if got := who(test.source, test.target); got != "old" {
			t.Errorf("after asking, %s is answered by %s", test.source, got)
		}
	}
}

// TestAskedIsGone: nobody answers in the place of the instance that is asked.
func TestAskedIsGone(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	listen := listenOn("tcp4", address)
	var s Steering
	old, fresh := instance(t, "old", listen), instance(t, "new", listen)
	steer(t, &s, []string{old.Cgroup}, []string{fresh.Cgroup})
	group := s.Groups()[0]
	fresh.Do(t, "close")
	if name, err := dial(t, &s, group, fresh.Cgroup); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("%q answered, %v, want it refused", name, err)
	}
	steer(t, &s, []string{old.Cgroup}, []string{fresh.Cgroup})
	if name, err := dial(t, &s, group, fresh.Cgroup); !errors.Is(err, ErrNotListening) {
		t.Errorf("%q answered, %v, want ErrNotListening", name, err)
	}
	only(t, address, 100, "old")
}

// TestRestart: an instance that dies leaves its share to the others, and comes in
// again at the next look; a held one that restarts stays held.
func TestRestart(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	listen := listenOn("tcp4", address)
	var s Steering
	config := func(name string) socktest.Config { return socktest.Config{Name: name, Listen: listen} }
	old1, old2, fresh := instance(t, "old1", listen), instance(t, "old2", listen), instance(t, "new", listen)
	old := []string{old1.Cgroup, old2.Cgroup}
	steer(t, &s, old, []string{fresh.Cgroup})
	old1.Kill()
	only(t, address, 100, "old2")
	steer(t, &s, old, []string{fresh.Cgroup})
	only(t, address, 100, "old2")

	fresh.Kill()
	fresh = socktest.Start(t, fresh.Cgroup, config("new"))
	only(t, address, 100, "old2")
	steer(t, &s, old, []string{fresh.Cgroup})
	only(t, address, 100, "old2")

	socktest.Start(t, old1.Cgroup, config("old1"))
	only(t, address, 100, "old2")
	steer(t, &s, old, []string{fresh.Cgroup})
	only(t, address, 100, "old1", "old2")
	if name, err := dial(t, &s, s.Groups()[0], fresh.Cgroup); err != nil || name != "new" {
		t.Errorf("asked the restarted one: %q, %v", name, err)
	}
}

// TestNoServerLeft: better a candidate than nobody.
func TestNoServerLeft(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	listen := listenOn("tcp4", address)
	var s Steering
	old, fresh := instance(t, "old", listen), instance(t, "new", listen)
	steer(t, &s, []string{old.Cgroup}, []string{fresh.Cgroup})
	old.Kill()
	only(t, address, 100, "new")
	if err := s.Steer(look(t), []string{old.Cgroup}, []string{fresh.Cgroup}); !errors.Is(err, ErrNobody) {
		t.Errorf("error %v, want ErrNobody", err)
	}
	only(t, address, 100, "new")
}

// TestUnchanged: a tick with nothing new switches nothing.
func TestUnchanged(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	listen := listenOn("tcp4", address)
	var s Steering
	old, fresh := instance(t, "old", listen), instance(t, "new", listen)
	steer(t, &s, []string{old.Cgroup}, []string{fresh.Cgroup})
	g := s.groups[s.Groups()[0]]
	before := g.inForce
	steer(t, &s, []string{old.Cgroup}, []string{fresh.Cgroup})
	if s.groups[g.id] != g || g.inForce != before {
		t.Error("the group was switched again")
	}
}

// TestRecover: what a dead helper left behind is taken off, and the next one can
// steer the same sockets.
func TestRecover(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	listen := append(listenOn("tcp4", address), listenOn("tcp6", "[::1]:8080")...)
	old, fresh := instance(t, "old", listen), instance(t, "new", listen)
	for range 5 {
		var dead Steering
		steer(t, &dead, []string{old.Cgroup}, []string{fresh.Cgroup})
		only(t, address, 100, "old")
		for _, g := range dead.groups {
			g.close() // as its death would
		}
		only(t, address, 100, "old")
		if err := Detach(old.Cgroup, fresh.Cgroup, "/no-such-group"); err != nil {
			t.Fatal(err)
		}
		only(t, address, 100, "new", "old")
		only(t, "[::1]:8080", 100, "new", "old")
		if err := Detach(old.Cgroup, fresh.Cgroup); err != nil {
			t.Errorf("nothing attached: %v", err)
		}
	}
	var s Steering
	steer(t, &s, []string{fresh.Cgroup}, nil)
	only(t, address, 100, "new")
	if err := s.Detach(); err != nil {
		t.Fatal(err)
	}
}

// TestMigrate: what is queued at a listener that closes goes to the serving ones,
// and to no other, though the sysctl is off.
func TestMigrate(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	for i, test := range []struct {
		name, network, listen, target string
		deferred                      bool
	}{
		{"queued, IPv4", "tcp4", "0.0.0.0:%d", "127.0.0.1:%d", false},
		{"queued, IPv6", "tcp6", "[::]:%d", "[::1]:%d", false},
		{"queued, IPv4 at dual-stack", "tcp", "[::]:%d", "127.0.0.1:%d", false},
		{"half open", "tcp4", "0.0.0.0:%d", "127.0.0.1:%d", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			port := 8000 + i
			listen := []socktest.Listen{{Network: test.network, Address: fmt.Sprintf(test.listen, port), Deferred: test.deferred}}
			target := fmt.Sprintf(test.target, port)
			old := socktest.Start(t, socktest.Cgroup(t, "old"), socktest.Config{Name: "old", Listen: listen, Lazy: true})
			held := instance(t, "held", listen)
			var s Steering
			defer s.Detach()
			steer(t, &s, []string{old.Cgroup}, []string{held.Cgroup})
			const n = 20
			var clients []*socktest.Client
			for range n {
				client, err := socktest.Connect(target)
				if err != nil {
					t.Fatal(err)
				}
				defer client.Close()
				if !test.deferred {
					if err := client.Say("who"); err != nil {
						t.Fatal(err)
					}
				}
				clients = append(clients, client)
			}
			before, err := sockets.ReadCounters()
			if err != nil {
				t.Fatal(err)
			}
			fresh := instance(t, "new", listen)
			steer(t, &s, []string{fresh.Cgroup}, []string{old.Cgroup, held.Cgroup})
			old.Kill()
			for i, client := range clients {
				if test.deferred {
					if err := client.Say("who"); err != nil {
						t.Fatal(err)
					}
				}
				if name, err := client.Hear(); err != nil || name != "new" {
					t.Errorf("client %d: answered by %q, %v, want new", i, name, err)
				}
			}
			after, err := sockets.ReadCounters()
			if err != nil {
				t.Fatal(err)
			}
			if d := after.Since(before); d.MigrateSuccess != n || d.MigrateFailure != 0 {
				t.Errorf("counters grew by %+v, want %d migrated", d, n)
			}
		})
	}
}
