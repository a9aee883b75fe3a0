package ports

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/sockets/socktest"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { socktest.Main(m) }

// inForce fails unless this build is in force.
func inForce(t *testing.T, dir, path string, want Build) {
	t.Helper()
	if build, err := InForce(dir, path); build != want || (err == nil) != (want != None) {
		t.Errorf("in force is %s, %v, want %s", build, err, want)
	}
}

// pinned are the names of what is pinned in dir.
func pinned(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), ".debug") {
			continue // the kernel's own, CONFIG_BPF_PRELOAD
		}
		names = append(names, entry.Name())
	}
	return names
}

func TestPin(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	dir, slice := socktest.BPFFS(), socktest.Cgroup(t, "slice")
	if build, err := InForce(dir, slice); build != None || err == nil || !strings.Contains(err.Error(), "bind4") {
		t.Errorf("nothing is pinned yet: %s, %v", build, err)
	}
	if renewed, err := Renew(dir, slice); renewed || err != nil {
		t.Errorf("nothing is pinned yet: Renew = %v, %v", renewed, err)
	}
	for range 3 {
		if err := Pin(dir, slice); err != nil {
			t.Fatal(err)
		}
		inForce(t, dir, slice, Current)
	}
	if got, want := pinned(t, dir), []string{Bind4, Bind6, signatureMap, SockCreate}; !slices.Equal(got, want) {
		t.Errorf("pinned %v, want %v", got, want)
	}
	// A run that was killed left a pin that is not in its place.
	if err := os.Rename(filepath.Join(dir, Bind6), filepath.Join(dir, Bind6+fresh)); err != nil {
		t.Fatal(err)
	}
	inForce(t, dir, slice, None)
	if err := Pin(dir, slice); err != nil {
		t.Fatal(err)
	}
	inForce(t, dir, slice, Current)
	// The slice was stopped, and started again.
	inForce(t, dir, socktest.Cgroup(t, "anew"), None)
}

// TestRenew: what another version has pinned is replaced, and what this version has
// pinned is not.
func TestRenew(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	dir, slice := socktest.BPFFS(), socktest.Cgroup(t, "slice")
	for _, older := range []struct {
		name string
		make func() error
	}{
		{"no signature, as of 0.1.0", func() error { return os.Remove(filepath.Join(dir, signatureMap)) }},
		{"a signature of another build", func() error {
			defer func(bytes []byte) { _ShareBytes = bytes }(_ShareBytes)
			_ShareBytes = slices.Concat(_ShareBytes, []byte{0})
			return sign(dir, links(t, dir, slice))
		}},
		{"a signature of another shape", func() error {
			m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 200, MaxEntries: 1})
			if err != nil {
				return err
			}
			defer m.Close()
			return place(m.Pin, filepath.Join(dir, signatureMap))
		}},
		{"a link that another version has made since", func() error {
			spec, err := programs()
			if err != nil {
				return err
			}
			loaded, err := ebpf.NewCollection(spec)
			if err != nil {
				return err
			}
			defer loaded.Close()
			return attach(loaded.Programs["ar_bind4"], ebpf.AttachCGroupInet4Bind, slice, filepath.Join(dir, Bind4))
		}},
	} {
		t.Run(older.name, func(t *testing.T) {
			if err := Pin(dir, slice); err != nil {
				t.Fatal(err)
			}
			if err := older.make(); err != nil {
				t.Fatal(err)
			}
			inForce(t, dir, slice, Older)
			before := links(t, dir, slice)
			for _, want := range []bool{true, false} {
				if renewed, err := Renew(dir, slice); renewed != want || err != nil {
					t.Errorf("Renew = %v, %v, want %v", renewed, err, want)
				}
				inForce(t, dir, slice, Current)
			}
			for i, id := range links(t, dir, slice) {
				if id == before[i] {
					t.Errorf("%s has the program that it had", pins[i].name)
				}
			}
		})
	}
}

// links are the ids of the programs in force.
func links(t *testing.T, dir, path string) (ids [len(pins)]ebpf.ProgramID) {
	t.Helper()
	cgroup, err := sockets.CgroupID(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range pins {
		linked, err := link.LoadPinnedLink(filepath.Join(dir, p.name), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer linked.Close()
		if ids[i], err = programOf(linked, cgroup); err != nil {
			t.Fatal(err)
		}
	}
	return ids
}

// TestRenewWhileBinding: an instance that binds while the programs are replaced
// shares its port. Several processes replace them at the same time.
func TestRenewWhileBinding(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	dir, cgroup := socktest.BPFFS(), socktest.Cgroup(t, "a")
	if err := Pin(dir, cgroup); err != nil {
		t.Fatal(err)
	}
	leave := enter(t, cgroup)
	defer leave()
	ended := make(chan error, 2)
	for range cap(ended) {
		go func() {
			var failed error
			for range 50 {
				failed = errors.Join(failed, Pin(dir, cgroup))
			}
			ended <- failed
		}()
	}
	for binds, running := 0, cap(ended); running > 0; binds++ {
		select {
		case err := <-ended:
			running--
			if err != nil {
				t.Error(err)
			}
		default:
		}
		if got := bindOnce(t, 8080); got != 1 {
			t.Fatalf("bind %d did not share its port", binds)
		}
	}
	inForce(t, dir, cgroup, Current)
}

// bindOnce binds a TCP socket, and returns its SO_REUSEPORT.
func bindOnce(t *testing.T, port int) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: port}); err != nil {
		t.Fatal(err)
	}
	got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// enter puts the test into a control group, until leave is called.
func enter(t *testing.T, cgroup string) (leave func()) {
	t.Helper()
	move := func(cgroup string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(sockets.Root(), cgroup, "cgroup.procs"), []byte("0"), 0); err != nil {
			t.Fatal(err)
		}
	}
	move(cgroup)
	return func() { move(filepath.Dir(cgroup)) }
}

func TestPinNeedsBPFFS(t *testing.T) {
	dir := t.TempDir()
	_, err := InForce(dir, "/")
	for _, err := range []error{Pin(dir, "/"), err} {
		if err == nil || !strings.Contains(err.Error(), "no bpffs") {
			t.Errorf("error %v, want one that says no bpffs", err)
		}
	}
	if _, err := InForce(filepath.Join(dir, "none"), "/"); !os.IsNotExist(err) {
		t.Errorf("error %v, want one that says it does not exist", err)
	}
}

// TestNames: bpftool shows whose each program and map is, and what it is.
func TestNames(t *testing.T) {
	spec, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range spec.Programs {
		names = append(names, p.Name)
	}
	for _, m := range spec.Maps {
		names = append(names, m.Name)
	}
	for _, name := range names {
		if !strings.HasPrefix(name, "ar_") || len(name) >= unix.BPF_OBJ_NAME_LEN {
			t.Errorf("%s does not begin with ar_, or is longer than %d bytes", name, unix.BPF_OBJ_NAME_LEN-1)
		}
	}
}

// TestShare: servers that never ask for SO_REUSEPORT share a port.
func TestShare(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	for _, test := range []struct{ network, address string }{
		{"tcp4", "0.0.0.0:8080"}, {"tcp4", "127.0.0.1:8081"}, {"tcp6", "[::]:8082"}, {"tcp6", "[::1]:8083"}, {"tcp", "[::]:8084"},
	} {
		t.Run(test.network+" "+test.address, func(t *testing.T) {
			config := socktest.Config{Name: "a", Listen: []socktest.Listen{{Network: test.network, Address: test.address, Plain: true}}}
			slice := socktest.Cgroup(t, "slice")
			a, b := socktest.Cgroup(t, "slice/a"), socktest.Cgroup(t, "slice/b")
			server := socktest.Start(t, a, config)
			if _, err := socktest.TryStart(t, b, config); err == nil || !strings.Contains(err.Error(), "in use") {
				t.Fatalf("without the programs: %v, want the port in use", err)
			}
			if err := Pin(socktest.BPFFS(), slice); err != nil {
				t.Fatal(err)
			}
			if _, err := socktest.TryStart(t, b, config); err == nil {
				t.Fatal("the one before did not share the port, and the second bound it")
			}
			server.Kill()
			socktest.Start(t, a, config)
			if _, err := socktest.TryStart(t, b, config); err != nil {
				t.Errorf("with the programs: %v", err)
			}
		})
	}
}

// TestPortZero: a socket that leaves the port to the kernel is left alone.
func TestPortZero(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	cgroup := socktest.Cgroup(t, "a")
	if err := Pin(socktest.BPFFS(), cgroup); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ network, zero string }{{"tcp4", "127.0.0.1:0"}, {"tcp6", "[::1]:0"}} {
		socktest.Start(t, cgroup, socktest.Config{Name: "a", Listen: []socktest.Listen{{Network: test.network, Address: test.zero, Plain: true}}})
	}
	v, err := sockets.Look()
	if err != nil {
		t.Fatal(err)
	}
	listeners, err := v.In(cgroup)
	if err != nil || len(listeners) != 2 {
		t.Fatalf("%d listeners, %v, want 2", len(listeners), err)
	}
	for _, l := range listeners {
		// Had it been set, this one could share the port: same user, same option.
		second := socktest.Cgroup(t, strings.Map(func(r rune) rune {
			if strings.ContainsRune("[]:.", r) {
				return '-'
			}
			return r
		}, l.Group.String()))
		network := "tcp4"
		if l.Addr.Addr().Is6() {
			network = "tcp6"
		}
		_, err := socktest.TryStart(t, second, socktest.Config{Name: "b", Listen: []socktest.Listen{{Network: network, Address: l.Addr.String()}}})
		if err == nil {
			t.Errorf("%s: SO_REUSEPORT was set on a port of the kernel's choice", l.Group)
		}
	}
}

// TestKinds: which sockets get SO_REUSEPORT when they bind.
func TestKinds(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	cgroup := socktest.Cgroup(t, "a")
	if err := Pin(socktest.BPFFS(), cgroup); err != nil {
		t.Fatal(err)
	}
	leave := enter(t, cgroup)
	defer leave()
	for _, c := range []struct {
		name           string
		kind, protocol int
		port           int
		want           int
	}{
		{"TCP", unix.SOCK_STREAM, 0, 8080, 1},
		{"TCP by its number", unix.SOCK_STREAM, unix.IPPROTO_TCP, 8081, 1},
		{"TCP on a port of the kernel's choice", unix.SOCK_STREAM, 0, 0, 0},
		{"UDP", unix.SOCK_DGRAM, 0, 8080, 1},
		{"UDP by its number", unix.SOCK_DGRAM, unix.IPPROTO_UDP, 8081, 1},
		{"UDP on a port of the kernel's choice", unix.SOCK_DGRAM, 0, 0, 0},
		{"UDP-Lite", unix.SOCK_DGRAM, unix.IPPROTO_UDPLITE, 8082, 0},
	} {
		for family, address := range map[int]unix.Sockaddr{unix.AF_INET: &unix.SockaddrInet4{Port: c.port}, unix.AF_INET6: &unix.SockaddrInet6{Port: c.port}} {
			fd, err := unix.Socket(family, c.kind|unix.SOCK_CLOEXEC, c.protocol)
			if err == unix.EPROTONOSUPPORT {
				t.Logf("left out: this kernel has no %s", c.name)
				continue
			}
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			defer unix.Close(fd)
			if family == unix.AF_INET6 { // or it would take the IPv4 port as well
				if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
					t.Fatal(err)
				}
			}
			if err := unix.Bind(fd, address); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			if got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT); err != nil || got != c.want {
				t.Errorf("%s, family %d: SO_REUSEPORT is %d, %v, want %d", c.name, family, got, err, c.want)
			}
		}
	}
}

// TestMultipathTCP: Go's listener falls back to TCP.
func TestMultipathTCP(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	cgroup := socktest.Cgroup(t, "a")
	config := socktest.Config{Name: "a", Listen: []socktest.Listen{{Network: "tcp4", Address: "127.0.0.1:8080", MPTCP: true}}}
	mptcp := func() bool {
		server := socktest.Start(t, cgroup, config)
		defer server.Kill()
		if name, err := socktest.Who("127.0.0.1:8080"); err != nil || name != "a" {
			t.Errorf("%q, %v", name, err)
		}
		v, err := sockets.Look()
		if err != nil {
			t.Fatal(err)
		}
		in, err := v.In(cgroup)
		if err != nil || len(in) != 1 {
			t.Fatalf("%d listeners, %v, want 1", len(in), err)
		}
		return in[0].MPTCP
	}
	if !mptcp() {
		t.Fatal("without the program the listener is no Multipath TCP one: the test shows nothing")
	}
	if err := Pin(socktest.BPFFS(), cgroup); err != nil {
		t.Fatal(err)
	}
	if mptcp() {
		t.Error("with the program the listener uses Multipath TCP")
	}
}

func TestSetMigrate(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	if on, err := Migrates(); err != nil || on {
		t.Fatalf("in a fresh network namespace: %v, %v, want off", on, err)
	}
	for range 2 {
		if err := SetMigrate(); err != nil {
			t.Fatal(err)
		}
		if on, err := Migrates(); err != nil || !on {
			t.Errorf("set: %v, %v, want on", on, err)
		}
	}
}
