package steering

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/sockets/socktest"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// TestRoomOfItsOwn: an app whose new instance opens more listeners than there are
// slots stays held, and disturbs no other app.
func TestRoomOfItsOwn(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	const other = "127.0.0.1:8081"
	many := []socktest.Listen{{Network: "tcp4", Address: address, Count: 2 * maxInstances * usualListeners}}
	var full, calm Steering
	old, oldCalm, newCalm := instance(t, "old", listenOn("tcp4", address)), instance(t, "oldCalm", listenOn("tcp4", other)), instance(t, "newCalm", listenOn("tcp4", other))
	steer(t, &full, []string{old.Cgroup}, nil)
	steer(t, &calm, []string{oldCalm.Cgroup}, []string{newCalm.Cgroup})

	fresh := instance(t, "new", many)
	err := full.Steer(look(t), []string{old.Cgroup}, []string{fresh.Cgroup})
	if unavailable := (*Unavailable)(nil); !errors.As(err, &unavailable) || !strings.Contains(unavailable.Reason, "more sockets") {
		t.Errorf("error %v, want an Unavailable that says that there are too many sockets", err)
	}
	only(t, address, 100, "old")
	only(t, other, 100, "oldCalm")
	steer(t, &calm, []string{newCalm.Cgroup}, []string{oldCalm.Cgroup})
	only(t, other, 100, "newCalm")

	fresh.Kill()
	fewer := instance(t, "fewer", listenOn("tcp4", address))
	steer(t, &full, []string{old.Cgroup}, []string{fewer.Cgroup})
	only(t, address, 100, "old")
	steer(t, &full, []string{fewer.Cgroup}, []string{old.Cgroup})
	only(t, address, 100, "fewer")
}

// TestSlotsAreUsedAgain: an instance that restarts for ever uses up no room.
func TestSlotsAreUsedAgain(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	listen := []socktest.Listen{{Network: "tcp4", Address: address, Count: usualListeners}}
	var s Steering
	old1, old2 := instance(t, "old1", listen), instance(t, "old2", listen)
	held := socktest.Cgroup(t, "held")
	serving := []string{old1.Cgroup, old2.Cgroup}
	steer(t, &s, serving, []string{held})
	g := s.groups[s.Groups()[0]]
	old1.Kill()
	for range 20 {
		server := socktest.Start(t, held, socktest.Config{Name: "held", Listen: listen})
		steer(t, &s, serving, []string{held})
		only(t, address, 100, "old2")
		if name, err := dial(t, &s, g.id, held); err != nil || name != "held" {
			t.Errorf("asked the restarted one: %q, %v", name, err)
		}
		server.Kill()
	}
	most := uint32(0)
	for _, slot := range g.slots {
		most = max(most, slot.index)
	}
	if most >= 5*usualListeners {
		t.Errorf("slot %d is in use by 3 instances of %d listeners", most, usualListeners)
	}
}

// TestSlotsThatAreMeant: a slot is not given to another socket as long as somebody
// may be sent there who means the one before: by the list in force, or by an ask
// under way.
func TestSlotsThatAreMeant(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	listen := listenOn("tcp4", address)
	var s Steering
	old1, old2, asked := instance(t, "old1", listen), instance(t, "old2", listen), instance(t, "asked", listen)
	steer(t, &s, []string{old1.Cgroup, old2.Cgroup}, []string{asked.Cgroup})
	g := s.groups[s.Groups()[0]]
	ids, err := sockets.Tree(asked.Cgroup)
	if err != nil {
		t.Fatal(err)
	}
	remove, err := s.rule(g.id, ids, addrPort("127.0.0.1:65535"))
	if err != nil {
		t.Fatal(err)
	}
	meant := make(map[uint32]bool)
	for _, slot := range g.slots {
		meant[slot.index] = true
	}
	old1.Kill()
	asked.Kill()

	// join is what Steer does before it switches.
	join := func(name string) slot {
		t.Helper()
		server := instance(t, name, listen)
		all, err := sockets.Listeners()
		if err != nil {
			t.Fatal(err)
		}
		listening := make(map[uint64]bool)
		for _, l := range all {
			listening[l.Cookie] = true
		}
		g.forget(listening)
		opened, err := sockets.Open(server.Cgroup, all)
		if err != nil || len(opened) != 1 {
			t.Fatalf("%d sockets, %v, want 1", len(opened), err)
		}
		defer sockets.Close(opened)
		if err := g.join(opened); err != nil {
			t.Fatal(err)
		}
		return g.slots[opened[0].Cookie]
	}
	for _, name := range []string{"new1", "new2"} {
		if got := join(name); meant[got.index] {
			t.Errorf("%s got slot %d, which is in the list in force or is asked", name, got.index)
		}
	}
	only(t, address, 100, "old2")

	remove()
	steer(t, &s, []string{old2.Cgroup}, nil)
	for _, name := range []string{"new3", "new4"} {
		if got := join(name); !meant[got.index] {
			t.Errorf("%s got slot %d, want one that nobody means any more", name, got.index)
		}
	}
}

// TestHundredsOfGroups: each is steered, has no more room than it needs, and is
// freed when it is no longer steered.
func TestHundredsOfGroups(t *testing.T) {
	if !socktest.Isolated(t, unix.CAP_SYS_ADMIN) {
		return
	}
	var listen []socktest.Listen
	for port := range 100 {
		listen = append(listen, listenOn("tcp4", fmt.Sprintf("127.0.0.1:%d", 8000+port))...)
		listen = append(listen, listenOn("tcp6", fmt.Sprintf("[::1]:%d", 8000+port))...)
	}
	old, fresh := instance(t, "old", listen), instance(t, "new", listen)
	var s Steering
	steer(t, &s, []string{old.Cgroup}, []string{fresh.Cgroup})
	for _, l := range listen {
		only(t, l.Address, 5, "old")
	}
	steer(t, &s, []string{fresh.Cgroup}, []string{old.Cgroup})
	for _, l := range listen {
		only(t, l.Address, 5, "new")
	}
	if len(s.groups) != len(listen) {
		t.Errorf("%d groups are steered, want %d", len(s.groups), len(listen))
	}
	var ids []ebpf.MapID
	memory := uint64(0)
	for _, g := range s.groups {
		for _, m := range []*ebpf.Map{g.ArListeners, g.ArLists, g.ArPolicy, g.ArAsks} {
			info, err := m.Info()
			if err != nil {
				t.Fatal(err)
			}
			id, _ := info.ID()
			ids = append(ids, id)
			size, _ := info.Memlock()
			memory += size
		}
	}
	if most := uint64(80 << 10 * len(listen)); memory > most {
		t.Errorf("the maps of %d groups take %d bytes, more than %d", len(listen), memory, most)
	}
	t.Logf("the maps of %d groups take %d KiB", len(listen), memory>>10)
	if err := s.Detach(); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		socktest.Eventually(t, fmt.Sprintf("map %d is freed", id), func() bool {
			m, err := ebpf.NewMapFromID(id)
			if err == nil {
				m.Close()
			}
			return errors.Is(err, fs.ErrNotExist)
		})
	}
}

// TestArrayOfVersion010: version 0.1.0 put sockets into a map of another kind, and
// the kernel lets no socket be in both. What it left is waited for, and what this
// version leaves is no hindrance after a downgrade.
func TestArrayOfVersion010(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	old := instance(t, "old", listenOn("tcp4", address))
	opened, err := sockets.Open(old.Cgroup, look(t).Listeners)
	if err != nil || len(opened) != 1 {
		t.Fatalf("%d sockets, %v, want 1", len(opened), err)
	}
	defer sockets.Close(opened)
	// array makes such a map with the socket in it.
	array := func() *ebpf.Map {
		m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.ReusePortSockArray, KeySize: 4, ValueSize: 8, MaxEntries: 1})
		if err != nil {
			t.Fatal(err)
		}
		socktest.Eventually(t, "the socket can be in an array", func() bool { return m.Put(uint32(0), uint64(opened[0].FD())) == nil })
		return m
	}
	for range 5 {
		array().Close() // the kernel clears it away later
		var s Steering
		steer(t, &s, []string{old.Cgroup}, nil)
		only(t, address, 10, "old")
		if err := s.Detach(); err != nil {
			t.Fatal(err)
		}
	}
	defer array().Close()
	var s Steering
	err = s.Steer(look(t), []string{old.Cgroup}, nil)
	if unavailable := (*Unavailable)(nil); !errors.As(err, &unavailable) || !strings.Contains(unavailable.Reason, "of somebody else") {
		t.Errorf("error %v, want an Unavailable that says that somebody else has it", err)
	}
}

// TestUntilFree: EBUSY is tried again, other errors are not.
func TestUntilFree(t *testing.T) {
	for _, test := range []struct {
		errs []error
		want error
	}{
		{[]error{unix.EBUSY, unix.EBUSY, nil}, nil},
		{[]error{unix.EBUSY, unix.EINVAL}, unix.EINVAL},
	} {
		tries := 0
		err := sockets.UntilFree(func() error { tries++; return test.errs[tries-1] })
		if err != test.want || tries != len(test.errs) {
			t.Errorf("%v: %v after %d tries, want %v", test.errs, err, tries, test.want)
		}
	}
}

// TestPolicy: of 256 new connections, as many as the policy says go by list 1.
func TestPolicy(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	listen := listenOn("tcp4", address)
	a, b := instance(t, "a", listen), instance(t, "b", listen)
	var s Steering
	steer(t, &s, []string{a.Cgroup}, []string{b.Cgroup}) // list 1
	steer(t, &s, []string{b.Cgroup}, []string{a.Cgroup}) // list 0
	g := s.groups[s.Groups()[0]]
	if err := g.ArPolicy.Put(uint32(0), uint32(64)); err != nil {
		t.Fatal(err)
	}
	// A quarter: the deviation is 14 of 1000.
	if counts := socktest.Count(t, address, 1000); counts["a"] < 150 || counts["a"] > 350 || counts["a"]+counts["b"] != 1000 {
		t.Errorf("answers by %v, want a quarter by a", counts)
	}
}

// TestNames: bpftool shows whose each program and map is, and what it is.
func TestNames(t *testing.T) {
	spec, err := loadPick()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Concat(slices.Collect(maps.Keys(spec.Programs)), slices.Collect(maps.Keys(spec.Maps))) {
		if !strings.HasPrefix(name, "ar_") || len(name) >= unix.BPF_OBJ_NAME_LEN {
			t.Errorf("%s does not begin with ar_, or is longer than %d bytes", name, unix.BPF_OBJ_NAME_LEN-1)
		}
	}
}
