package steering

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/sockets/socktest"

	"golang.org/x/sys/unix"
)

func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// TestUnavailable: what cannot be steered says why, and stays as it was.
func TestUnavailable(t *testing.T) {
	if !socktest.Isolated(t, unix.CAP_SYS_ADMIN) {
		return
	}
	for _, test := range []struct {
		name   string
		config socktest.Config
		reason string
	}{
		{"no SO_REUSEPORT", socktest.Config{Listen: []socktest.Listen{{Network: "tcp4", Address: address, Plain: true}}}, "does not share its port (SO_REUSEPORT)"},
		{"Multipath TCP", socktest.Config{Listen: []socktest.Listen{{Network: "tcp4", Address: address, MPTCP: true}}}, "uses Multipath TCP"},
		{"another network namespace", socktest.Config{Elsewhere: true, Listen: listenOn("tcp4", "0.0.0.0:8080")}, "listener in another network namespace"},
		{"no listener", socktest.Config{}, "no instance listens on a TCP port"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.config.Name = "a"
			server := socktest.Start(t, socktest.Cgroup(t, "a"), test.config)
			var s Steering
			err := s.Steer(look(t), []string{server.Cgroup}, nil)
			var unavailable *Unavailable
			if !errors.As(err, &unavailable) || !strings.Contains(unavailable.Reason, test.reason) {
				t.Fatalf("error %v, want an Unavailable that says %q", err, test.reason)
			}
			if len(s.Groups()) != 0 {
				t.Errorf("steered all the same: %v", s.Groups())
			}
			if err := s.Detach(); err != nil {
				t.Error(err)
			}
			if err := Detach(server.Cgroup); err != nil {
				t.Error(err)
			}
			if len(test.config.Listen) > 0 && !test.config.Elsewhere {
				only(t, address, 10, "a")
			}
		})
	}
}

// TestOneListenerAlone: a port that nobody can share, such as one that the kernel
// chose, keeps none of the others from being steered.
func TestOneListenerAlone(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	listen := append(listenOn("tcp4", address), socktest.Listen{Network: "tcp4", Address: "127.0.0.1:0", Plain: true})
	a, b := instance(t, "a", listen), instance(t, "b", listen)
	var s Steering
	for _, serving := range []*socktest.Server{a, b, a} {
		for range 2 {
			if err := s.Steer(look(t), []string{serving.Cgroup}, nil); err != nil {
				t.Fatal(err)
			}
		}
		if got := s.Groups(); len(got) != 1 || got[0].String() != address {
			t.Errorf("steered are %v", got)
		}
		only(t, address, 50, map[*socktest.Server]string{a: "a", b: "b"}[serving])
	}
	if err := s.Detach(); err != nil {
		t.Error(err)
	}
}

// TestNobody: when nobody of those who are to serve listens, all stays as it is.
func TestNobody(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	a, b, deaf := instance(t, "a", listenOn("tcp4", address)), instance(t, "b", listenOn("tcp4", address)), instance(t, "deaf", nil)
	var s Steering
	nobody := func() {
		t.Helper()
		if err := s.Steer(look(t), []string{deaf.Cgroup}, []string{b.Cgroup}); !errors.Is(err, ErrNobody) {
			t.Errorf("error %v, want ErrNobody", err)
		}
	}
	nobody()
	only(t, address, 50, "a", "b")
	steer(t, &s, []string{a.Cgroup}, nil)
	nobody()
	only(t, address, 50, "a")
	if err := s.Detach(); err != nil {
		t.Error(err)
	}
}

// TestOldView: what has closed since the view is looked for again.
func TestOldView(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	a, b := instance(t, "a", listenOn("tcp4", address)), instance(t, "b", listenOn("tcp4", address))
	old := look(t)
	a.Kill()
	a = socktest.Start(t, a.Cgroup, socktest.Config{Name: "anew", Listen: listenOn("tcp4", address)})
	var s Steering
	if err := s.Steer(old, []string{a.Cgroup}, []string{b.Cgroup}); err != nil {
		t.Fatal(err)
	}
	only(t, address, 50, "anew")
	if err := s.Detach(); err != nil {
		t.Error(err)
	}
}

// TestNotPermitted: without the capabilities, steering is unavailable.
func TestNotPermitted(t *testing.T) {
	if !socktest.IsolatedWith(t, nil) {
		return
	}
	server := instance(t, "a", listenOn("tcp4", address))
	var s Steering
	err := s.Steer(look(t), []string{server.Cgroup}, nil)
	var unavailable *Unavailable
	if !errors.As(err, &unavailable) || !strings.Contains(unavailable.Reason, "not permitted") || !errors.Is(err, unix.EPERM) {
		t.Errorf("error %v, want an Unavailable that says not permitted", err)
	}
	if err := errors.Join(s.Detach(), Detach(server.Cgroup)); err != nil {
		t.Errorf("nothing was steered, but: %v", err)
	}
}

func TestReasons(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{unix.EPERM, "loading is not permitted (it needs CAP_BPF"},
		{unix.ENOSYS, "loading: the kernel was built without it"},
		{unix.E2BIG, "loading: argument list too long"},
		{&Unavailable{Reason: "known"}, "known"},
	} {
		if got := unavailable("loading", test.err).Error(); !strings.HasPrefix(got, test.want) {
			t.Errorf("%v: %q, want %q", test.err, got, test.want)
		}
	}
}

func TestTarget(t *testing.T) {
	for _, test := range []struct{ group, want string }{
		{"0.0.0.0:80", "127.0.0.1:80"},
		{"192.0.2.1:80", "192.0.2.1:80"},
		{"[2001:db8::1]:80", "[2001:db8::1]:80"},
		{"[::ffff:192.0.2.1]:80", "192.0.2.1:80"},
	} {
		if got := Target(sockets.Group{Addr: addrPort(test.group)}); got.String() != test.want {
			t.Errorf("%s is dialled at %s, want %s", test.group, got, test.want)
		}
	}
	if got := Target(sockets.Group{Addr: addrPort("[::]:80"), V6Only: true}); got.String() != "[::1]:80" {
		t.Errorf("[::] is dialled at %s", got)
	}
}
