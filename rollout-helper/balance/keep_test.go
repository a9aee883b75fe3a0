package balance

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/sockets/socktest"
	"app-rollout/rollout-helper/steering"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// TestComesBack: instances that are restarted at any moment, also while Keep runs, are
// each in one slot, and all are served.
func TestComesBack(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	g := newGround(t, 3, socktest.Listen{Network: "tcp4", Address: ipv4, Count: 2})
	g.keep()
	var restarts sync.WaitGroup
	restarts.Go(func() {
		for i := range 9 {
			g.restart(1 + i%2) // the first keeps the group there
		}
	})
	for range 20 {
		g.keep()
	}
	restarts.Wait()
	g.keep()
	g.none()
	counts, leave := g.stay(ipv4, 300)
	g.even(counts, 3)
	leave()
	g.none()
	// One that has come by itself is taken out before anybody is sent there in vain.
	listening := len(g.counts())
	g.servers[1].Kill()
	socktest.Eventually(t, "it is out", func() bool { return len(g.counts()) == listening-2 })
}

// TestOthers: what listens in the slice at another address, or at the same one in
// another network namespace, is not entered.
func TestOthers(t *testing.T) {
	if !socktest.Isolated(t, unix.CAP_SYS_ADMIN) {
		return
	}
	g := newGround(t, 2, socktest.Listen{Network: "tcp4", Address: "0.0.0.0:8080"})
	g.keep()
	before := len(g.counts())
	socktest.Start(t, socktest.Cgroup(t, "other"), socktest.Config{Name: "other", Listen: []socktest.Listen{
		{Network: "tcp4", Address: "127.0.0.1:8081"}, {Network: "tcp4", Address: "127.0.0.2:8080"}, {Network: "tcp6", Address: ipv6},
	}})
	socktest.Start(t, socktest.Cgroup(t, "elsewhere"), socktest.Config{Name: "elsewhere", Elsewhere: true, Listen: []socktest.Listen{{Network: "tcp4", Address: "0.0.0.0:8080"}}})
	if after := g.counts(); len(after) != before {
		t.Errorf("%+v", after)
	}
	for _, client := range []string{"127.0.0.1:8081", ipv6} {
		socktest.Count(t, client, 10)
	}
}

// TestSliceAnew: a slice that was gone, and is back, is counted in again.
func TestSliceAnew(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	g := &ground{T: t, dir: filepath.Join(socktest.BPFFS(), "balance"), listen: []socktest.Listen{{Network: "tcp4", Address: ipv4}}}
	g.slice = socktest.Cgroup(t, "slice")
	for i := range 2 {
		g.groups = append(g.groups, socktest.Cgroup(t, fmt.Sprintf("slice/%d", i)))
		g.servers = append(g.servers, nil)
		g.start(i)
	}
	for range 2 {
		g.keep()
		g.restart(1)
		g.none()
		for i, server := range g.servers {
			server.Kill()
			dir := filepath.Join(sockets.Root(), g.groups[i])
			socktest.Eventually(t, "the instance is gone", func() bool { return os.Remove(dir) == nil })
		}
		slice := filepath.Join(sockets.Root(), g.slice)
		if err := os.Remove(slice); err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{slice, slice + "/0", slice + "/1"} {
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		g.start(0)
		g.start(1)
	}
	g.keep()
	g.none()
}

// TestForgotten: an app that is balanced no more is spread by the kernel's hash; its
// connections are taken off, its listeners let go. With the last one all is gone.
func TestForgotten(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	g := newGround(t, 2, socktest.Listen{Network: "tcp4", Address: ipv4})
	other := socktest.Cgroup(t, "other")
	server := socktest.Start(t, other, socktest.Config{Name: "other", Listen: []socktest.Listen{{Network: "tcp4", Address: "127.0.0.1:8081"}}})
	g.keep()
	if err := Keep(g.dir, g.slice, g.view(), []string{other}); err != nil {
		t.Fatal(err)
	}
	_, leave := g.stay(ipv4, 50)
	g.forget()
	g.restart(0)
	counts := g.counts()
	left := 0
	for _, s := range counts {
		if s.State&phase == serving {
			left++
		}
	}
	if left != 1 {
		t.Errorf("one listener is balanced yet, and the registry has %+v", counts)
	}
	socktest.Count(t, ipv4, 20)
	leave()
	socktest.Eventually(t, "the connections are taken off", func() bool { return len(g.counts()) == 1 })
	// The other app goes, and is forgotten by the next that asks.
	server.Kill()
	g.forget()
	if pins, err := os.ReadDir(build(g.dir)); err != nil || len(pins) != 0 {
		t.Errorf("still pinned: %v, %v", pins, err)
	}
	g.keep()
	g.forget()
}

// TestSteered: while a rollout steers, a new instance gets nothing, although it is in
// the registry; afterwards it gets its share.
func TestSteered(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	g := newGround(t, 2, socktest.Listen{Network: "tcp4", Address: ipv4})
	g.keep()
	_, leave := g.stay(ipv4, 20)
	defer leave()
	old := g.groups
	var s steering.Steering
	if err := s.Steer(g.view(), old, nil); err != nil {
		t.Fatal(err)
	}
	g.groups = append(g.groups, socktest.Cgroup(t, "new"))
	g.servers = append(g.servers, nil)
	g.start(2)
	if err := s.Steer(g.view(), old, g.groups[2:]); err != nil {
		t.Fatal(err)
	}
	if counts := socktest.Count(t, ipv4, 100); counts["new"] > 0 {
		t.Errorf("the new one is held, and got %v", counts)
	}
	if err := s.Steer(g.view(), g.groups[2:], old); err != nil {
		t.Fatal(err)
	}
	if counts := socktest.Count(t, ipv4, 100); counts["new"] != 100 {
		t.Errorf("the new one alone is to serve, and they got %v", counts)
	}
	if err := s.Detach(); err != nil {
		t.Fatal(err)
	}
	g.keep()
	if counts, leave := g.stay(ipv4, 8); counts["new"] < 7 {
		t.Errorf("the old ones have ten connections each, and they got %v", counts)
	} else {
		leave()
	}
}

// TestEnd: all listeners are let go, so that a rollout of version 0.1.0 can put them in
// a map of another kind.
func TestEnd(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	g := newGround(t, 2, socktest.Listen{Network: "tcp4", Address: ipv4})
	older := filepath.Join(g.dir, "older")
	if err := os.MkdirAll(older, 0o700); err != nil {
		t.Fatal(err)
	}
	g.keep()
	array, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.ReusePortSockArray, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer array.Close()
	opened, err := sockets.Open(g.groups[0], g.view().Listeners)
	if err != nil || len(opened) != 1 {
		t.Fatalf("%v, %v", opened, err)
	}
	defer sockets.Close(opened)
	put := func() error { return array.Put(uint32(0), uint64(opened[0].FD())) }
	if err := put(); !errors.Is(err, unix.EBUSY) {
		t.Errorf("a listener that is balanced could be put in an array: %v", err)
	}
	if err := steering.Detach(g.slice); err != nil {
		t.Fatal(err)
	}
	if err := End(g.dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(g.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", g.dir, err)
	}
	socktest.Eventually(t, "the listener can be put in an array", func() bool { return put() == nil })
	socktest.Count(t, ipv4, 20)
}

// TestNoRoom: an app with more listeners than there is room for is refused, with the
// reason. So is one that does not run in the slice.
func TestNoRoom(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	g := newGround(t, 2, socktest.Listen{Network: "tcp4", Address: ipv4, Count: 130})
	if err := Keep(g.dir, g.slice, g.view(), g.groups); err == nil || !strings.Contains(err.Error(), "more than 256 listen there") {
		t.Errorf("%v", err)
	}
	g.forget()
	if err := Keep(g.dir, "/system.slice", g.view(), g.groups); err == nil || !strings.Contains(err.Error(), "i000 runs outside of system.slice") {
		t.Errorf("%v", err)
	}
}

// TestManyGroups: there is room for 64 groups, 8 of one app; it is said when there is
// none, and a group whose listeners are gone makes room.
func TestManyGroups(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	var g *ground
	start := func(name string, first, n int) (*socktest.Server, string) {
		var listen []socktest.Listen
		for i := range n {
			listen = append(listen, socktest.Listen{Network: "tcp4", Address: fmt.Sprintf("127.0.0.1:%d", first+i)})
		}
		cgroup := socktest.Cgroup(t, name)
		g = &ground{T: t, dir: filepath.Join(socktest.BPFFS(), "balance"), slice: path.Dir(cgroup)}
		return socktest.Start(t, cgroup, socktest.Config{Name: name, Listen: listen}), cgroup
	}
	keep := func(cgroup, want string) {
		t.Helper()
		err := Keep(g.dir, g.slice, g.view(), []string{cgroup})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	var last *socktest.Server
	for i := range 8 {
		server, cgroup := start(fmt.Sprint(i), 8000+8*i, 8)
		keep(cgroup, "")
		last = server
	}
	g.none()
	_, more := start("more", 8100, 1)
	keep(more, "64 listener groups are balanced already")
	_, greedy := start("greedy", 8200, 9)
	keep(greedy, "at most 8 of one app")
	last.Kill()
	keep(more, "")
}
