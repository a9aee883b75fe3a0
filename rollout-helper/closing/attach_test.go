package closing

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"app-rollout/rollout-helper/sockets/socktest"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// hooked counts what is attached where packets leave by the interface.
func hooked(t *testing.T, name string) (n int) {
	t.Helper()
	at, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	links, err := link.QueryPrograms(link.QueryOptions{Target: at.Attrs().Index, Attach: ebpf.AttachTCXEgress})
	// Before Linux 6.6 there are no such links to ask for.
	if err == nil {
		n = len(links.Programs)
	} else if tcx(t) {
		t.Fatal(err)
	}
	filters, err := netlink.FilterList(at, netlink.HANDLE_MIN_EGRESS)
	if err == nil {
		n += len(filters)
	}
	return n
}

// tcx says whether the kernel has the links.
func tcx(t *testing.T) bool {
	t.Helper()
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	l, err := link.AttachTCX(link.TCXOptions{Interface: lo.Index, Program: somebodys(t), Attach: ebpf.AttachTCXEgress})
	if err == nil {
		l.Close()
	}
	return !errors.Is(err, ebpf.ErrNotSupported)
}

// somebodys is a program of somebody else's that packets pass on their way out.
func somebodys(t *testing.T) *ebpf.Program {
	t.Helper()
	spec, err := tellSpec()
	if err != nil {
		t.Fatal(err)
	}
	var objects tellObjects
	if err := spec.Copy().LoadAndAssign(&objects, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { objects.Close() })
	return objects.ArTell
}

// disciplined says whether the interface has a clsact queueing discipline.
func disciplined(t *testing.T, name string) bool {
	t.Helper()
	at, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	all, err := netlink.QdiscList(at)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range all {
		if q.Type() == "clsact" {
			return true
		}
	}
	return false
}

// opened is a Closing of the app.
func opened(t *testing.T, app string, attach func(c *Closing, index int) (hook, error)) *Closing {
	t.Helper()
	c, err := open(filepath.Join(socktest.BPFFS(), app), attach)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func closed(t *testing.T, c *Closing) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// nothing fails if anything of ours is left.
func nothing(t *testing.T) {
	t.Helper()
	// The kernel takes a link off some time after its last reference has gone.
	socktest.Eventually(t, "nothing is on lo", func() bool { return hooked(t, "lo") == 0 && !disciplined(t, "lo") })
	pins, err := os.ReadDir(socktest.BPFFS())
	// A bpffs has two files of its own.
	pins = slices.DeleteFunc(pins, func(p os.DirEntry) bool { return strings.HasSuffix(p.Name(), ".debug") })
	if err != nil || len(pins) > 0 {
		t.Errorf("pins are left: %v, %v", pins, err)
	}
}

// TestTakenOff: nothing is left of one app or of several, in whatever order they end,
// nor of a run that was killed.
func TestTakenOff(t *testing.T) {
	each(t, func(t *testing.T, attach func(c *Closing, index int) (hook, error)) {
		c := opened(t, "shop", attach)
		if n := hooked(t, "lo"); n != 1 {
			t.Errorf("%d programs on lo, want 1", n)
		}
		if err := c.Tell([]string{"/no/such"}); err != nil {
			t.Errorf("an instance that has ended: %v", err)
		}
		closed(t, c)
		nothing(t)

		for _, order := range [][2]int{{0, 1}, {1, 0}} {
			two := [2]*Closing{opened(t, "a", attach), opened(t, "b", attach)}
			closed(t, two[order[0]])
			if n := hooked(t, "lo"); n != 1 {
				t.Errorf("%d programs on lo, want the other app's", n)
			}
			closed(t, two[order[1]])
			nothing(t)
		}

		// A killed run leaves its pins, and closes its file descriptors.
		c = opened(t, "shop", attach)
		for _, h := range c.hooks {
			if p, is := h.(pinned); is {
				p.Link.Close()
			}
		}
		c.objects.Close()
		if n := hooked(t, "lo"); n != 1 {
			t.Errorf("%d programs on lo, want the one that was left", n)
		}
		if err := Sweep(c.dir); err != nil {
			t.Error(err)
		}
		nothing(t)
		if err := Sweep(c.dir); err != nil {
			t.Errorf("a second time: %v", err)
		}
	})
}

// TestUnknownPins: what lies beside the pins, under a name that says nothing, is removed
// with them, and keeps no run from its beginning.
func TestUnknownPins(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	dir := filepath.Join(socktest.BPFFS(), "shop")
	for _, odd := range []string{"else", "else-1", "filter-one", "clsact-", "link-one"} {
		if err := os.MkdirAll(filepath.Join(dir, odd), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	closed(t, opened(t, "shop", (*Closing).attach))
	nothing(t)
}

// TestRights: CAP_BPF and CAP_NET_ADMIN are enough, and both are needed.
func TestRights(t *testing.T) {
	for name, c := range map[string]struct {
		keep []uintptr
		ok   bool
	}{
		"enough":           {[]uintptr{unix.CAP_BPF, unix.CAP_NET_ADMIN}, true},
		"no CAP_BPF":       {[]uintptr{unix.CAP_NET_ADMIN}, false},
		"no CAP_NET_ADMIN": {[]uintptr{unix.CAP_BPF}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if !socktest.IsolatedWith(t, c.keep) {
				return
			}
			told, err := Open(filepath.Join(socktest.BPFFS(), "shop"))
			if !c.ok {
				if err == nil {
					t.Error("it is permitted")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := told.Tell([]string{socktest.Cgroup(t, cgroup)}); err != nil || len(told.ears) != 1 {
				t.Errorf("%v, %d control groups", err, len(told.ears))
			}
			closed(t, told)
		})
	}
}

// TestOthers: a program of somebody else's stays, and so does a queueing discipline that
// was there before. Ours comes first, since others may let nobody behind them have a say.
func TestOthers(t *testing.T) {
	each(t, func(t *testing.T, attach func(c *Closing, index int) (hook, error)) {
		program := somebodys(t)
		lo, err := net.InterfaceByName("lo")
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := link.AttachTCX(link.TCXOptions{Interface: lo.Index, Program: program, Attach: ebpf.AttachTCXEgress})
		if err != nil {
			t.Fatal(err)
		}
		defer theirs.Close()
		if err := netlink.QdiscAdd(clsact(lo.Index)); err != nil {
			t.Fatal(err)
		}
		defer netlink.QdiscDel(clsact(lo.Index))
		if err := netlink.FilterAdd(&netlink.BpfFilter{
			FilterAttrs: netlink.FilterAttrs{LinkIndex: lo.Index, Parent: netlink.HANDLE_MIN_EGRESS, Protocol: 3, Priority: 1},
			Fd:          program.FD(), Name: "theirs", DirectAction: true,
		}); err != nil {
			t.Fatal(err)
		}
		c := opened(t, "shop", attach)
		if n := hooked(t, "lo"); n != 3 {
			t.Errorf("%d programs on lo, want theirs and ours", n)
		}
		if _, linked := c.hooks[lo.Index].(pinned); linked {
			query, err := link.QueryPrograms(link.QueryOptions{Target: lo.Index, Attach: ebpf.AttachTCXEgress})
			if err != nil {
				t.Fatal(err)
			}
			info, err := c.objects.ArTell.Info()
			if err != nil {
				t.Fatal(err)
			}
			if id, _ := info.ID(); query.Programs[0].ID != id {
				t.Error("ours is not the first")
			}
		}
		closed(t, c)
		if n := hooked(t, "lo"); n != 2 || !disciplined(t, "lo") {
			t.Errorf("%d programs on lo, want theirs, clsact: %v", n, disciplined(t, "lo"))
		}
	})
}

// TestNewInterfaces: an interface that appears later is seen, and one that goes is no
// trouble.
func TestNewInterfaces(t *testing.T) {
	each(t, func(t *testing.T, attach func(c *Closing, index int) (hook, error)) {
		c := opened(t, "shop", attach)
		pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "one"}, PeerName: "other"}
		if err := netlink.LinkAdd(pair); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"one", "other"} {
			l, err := netlink.LinkByName(name)
			if err != nil {
				t.Fatal(err)
			}
			if err := netlink.LinkSetUp(l); err != nil {
				t.Fatal(err)
			}
		}
		socktest.Eventually(t, "the new interfaces are covered", func() bool {
			if err := c.Tell(nil); err != nil {
				t.Fatal(err)
			}
			return hooked(t, "one") == 1 && hooked(t, "other") == 1
		})
		if err := netlink.LinkDel(pair); err != nil {
			t.Fatal(err)
		}
		if err := c.Tell(nil); err != nil {
			t.Error(err)
		}
		closed(t, c)
		nothing(t)
	})
}

// TestPartial: of hundreds of interfaces three are named.
func TestPartial(t *testing.T) {
	var wrong []error
	for _, want := range []string{"a", "a; b", "a; b; c", "a; b; c; and 1 more", "a; b; c; and 2 more"} {
		wrong = append(wrong, errors.New(string(rune('a'+len(wrong)))))
		if got := (&Partial{wrong}).Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestForeignFilter: where somebody else's filter of another kind stands in the way, clients
// are told behind all other interfaces. It is said once, in one line.
func TestForeignFilter(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "theirs"}, PeerName: "other"}
	if err := netlink.LinkAdd(pair); err != nil {
		t.Fatal(err)
	}
	defer netlink.LinkDel(pair)
	at, err := netlink.LinkByName("theirs")
	if err != nil {
		t.Fatal(err)
	}
	index := at.Attrs().Index
	for _, err := range []error{netlink.LinkSetUp(at), netlink.QdiscAdd(clsact(index))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := netlink.FilterAdd(&netlink.U32{FilterAttrs: netlink.FilterAttrs{
		LinkIndex: index, Parent: netlink.HANDLE_MIN_EGRESS, Protocol: unix.ETH_P_ALL, Priority: priority,
	}}); err != nil {
		t.Fatal(err)
	}
	b := newBed(t, "tcp4", address, (*Closing).filter)
	for range 2 {
		err := b.closing.Tell([]string{cgroupPath})
		var partial *Partial
		if !errors.As(err, &partial) || strings.Count(err.Error(), "the network interface theirs: ") != 1 || strings.Contains(err.Error(), "\n") {
			t.Fatalf("Tell: %v", err)
		}
		b.closing.covered = time.Time{}
	}
	talk := b.connect(t)
	head := lines(ok, "Server: somebody's 1.0.0", nine)
	talk.ask(t, get)
	talk.answer(t, head+"some text", strings.Replace(head, "Server: somebody's 1.0.0", in("Server: somebody's 1.0.0"), 1)+"some text")
	if n := hooked(t, "theirs"); n != 1 || !disciplined(t, "theirs") {
		t.Errorf("%d filters on theirs, want theirs; clsact: %v", n, disciplined(t, "theirs"))
	}
	closed(t, b.closing)
	b.closing = nil
	if n := hooked(t, "theirs"); n != 1 {
		t.Errorf("%d filters on theirs, want theirs", n)
	}
	nothing(t)
}

// TestKilledHalfway: a run that is killed when it has just made a queueing discipline does
// not leave it behind; nor does it take another one along that somebody makes meanwhile.
func TestKilledHalfway(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	none := func(*Closing, int) (hook, error) { return nil, unix.ENODEV }
	killed := errors.New("killed")
	c := opened(t, "shop", none)
	if err := c.discipline(lo.Index, func(q netlink.Qdisc) error { return errors.Join(netlink.QdiscAdd(q), killed) }); !errors.Is(err, killed) {
		t.Fatal(err)
	}
	if !disciplined(t, "lo") {
		t.Fatal("it made nothing")
	}
	closed(t, c)
	nothing(t)

	c = opened(t, "shop", none)
	quicker := func(q netlink.Qdisc) error { return errors.Join(netlink.QdiscAdd(q), netlink.QdiscAdd(q)) }
	if err := c.discipline(lo.Index, quicker); err != nil {
		t.Fatal(err)
	}
	closed(t, c)
	if !disciplined(t, "lo") {
		t.Error("somebody else's is gone")
	}
	if err := netlink.QdiscDel(clsact(lo.Index)); err != nil {
		t.Error(err)
	}
	nothing(t)
}
