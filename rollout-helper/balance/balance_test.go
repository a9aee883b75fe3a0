package balance

import (
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/sockets/socktest"
	"app-rollout/rollout-helper/steering"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { socktest.Main(m) }

// ground is a slice with instances of one app, each in a control group of its own.
type ground struct {
	*testing.T
	dir, slice string
	listen     []socktest.Listen
	groups     []string // control groups
	servers    []*socktest.Server
}

// newGround starts so many instances that listen in these ways.
func newGround(t *testing.T, n int, listen ...socktest.Listen) *ground {
	g := &ground{T: t, dir: filepath.Join(socktest.BPFFS(), "balance"), listen: listen}
	for i := range n {
		g.groups = append(g.groups, socktest.Cgroup(t, fmt.Sprintf("i%03d", i)))
		g.servers = append(g.servers, nil)
		g.start(i)
	}
	g.slice = path.Dir(g.groups[0])
	return g
}

func (g *ground) start(i int) {
	g.Helper()
	g.servers[i] = socktest.Start(g.T, g.groups[i], socktest.Config{Name: path.Base(g.groups[i]), Listen: g.listen})
}

func (g *ground) restart(i int) {
	g.Helper()
	g.servers[i].Kill()
	g.start(i)
}

func (g *ground) view() *sockets.View {
	g.Helper()
	v, err := sockets.Look()
	if err != nil {
		g.Fatal(err)
	}
	return v
}

func (g *ground) keep() {
	g.Helper()
	if err := Keep(g.dir, g.slice, g.view(), g.groups); err != nil {
		g.Fatalf("%+v", err)
	}
}

// forget does what a rollout does with an app that is to be balanced no more.
func (g *ground) forget() {
	g.Helper()
	if err := steering.Detach(g.groups...); err != nil {
		g.Fatal(err)
	}
	if err := Forget(g.dir, g.slice, g.view(), g.groups); err != nil {
		g.Fatal(err)
	}
}

// counts are the slots that have a listener or a connection, by the listener's cookie.
func (g *ground) counts() map[uint64]balanceSlot {
	g.Helper()
	r, err := open(g.dir, g.slice, false)
	if err != nil {
		g.Fatal(err)
	}
	if r == nil {
		return nil
	}
	defer r.close()
	counts := make(map[uint64]balanceSlot)
	for _, s := range r.slots {
		if s.State&phase == closed && s.Conns == 0 && s.Waiting == 0 {
			continue
		}
		if _, twice := counts[s.Cookie]; twice {
			g.Errorf("listener %d is in two slots", s.Cookie)
		}
		counts[s.Cookie] = s
	}
	return counts
}

// sum is how many connections all listeners have, and how many of these wait.
func (g *ground) sum() (conns, waiting int) {
	g.Helper()
	for _, s := range g.counts() {
		conns, waiting = conns+int(s.Conns), waiting+int(s.Waiting)
	}
	return conns, waiting
}

// none waits until nothing is counted, and each listener is in one slot.
func (g *ground) none() {
	g.Helper()
	var left map[uint64]balanceSlot
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		left = g.counts()
		busy := false
		for _, s := range left {
			busy = busy || s.Conns != 0 || s.Waiting != 0
		}
		if !busy {
			break
		}
		if time.Now().After(deadline) {
			g.Fatalf("no connection is left, but the counts are %+v", left)
		}
	}
	for _, l := range g.view().Listeners {
		if left[l.Cookie].State&phase != serving {
			g.Errorf("the listener %d on %s is not in the registry: %+v", l.Cookie, l.Group, left)
		}
	}
}

// stay opens so many connections, each of which was answered, and counts who has them.
func (g *ground) stay(address string, n int) (counts map[string]int, leave func()) {
	g.Helper()
	counts = make(map[string]int)
	var clients []*socktest.Client
	leave = func() {
		for _, c := range clients {
			c.Close()
		}
		clients = nil
	}
	for range n {
		c, err := socktest.Connect(address)
		if err != nil {
			g.Fatal(err)
		}
		clients = append(clients, c)
		if err := c.Say("who"); err != nil {
			g.Fatal(err)
		}
		name, err := c.Hear()
		if err != nil {
			g.Fatal(err)
		}
		counts[name]++
	}
	return counts, leave
}

// even fails unless the most that one has is at most 1.02 of the mean.
func (g *ground) even(counts map[string]int, instances int) {
	g.Helper()
	sum, most := 0, 0
	for _, n := range counts {
		sum, most = sum+n, max(most, n)
	}
	if float64(most*instances) > 1.02*float64(sum) {
		g.Errorf("%v: the most is more than 1.02 of the mean", counts)
	}
}

const ipv4, ipv6 = "127.0.0.1:8080", "[::1]:8080"

// families are the ways to listen, and the addresses by which clients come.
var families = []struct {
	listen  socktest.Listen
	clients []string
}{
	{socktest.Listen{Network: "tcp4", Address: ipv4}, []string{ipv4}},
	{socktest.Listen{Network: "tcp6", Address: ipv6}, []string{ipv6}},
	{socktest.Listen{Network: "tcp", Address: "[::]:8080"}, []string{ipv4, ipv6}},
	{socktest.Listen{Network: "tcp4", Address: "0.0.0.0:8080"}, []string{ipv4}},
}

// TestFew: a few connections are spread evenly, in each way to listen.
func TestFew(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	for _, f := range families {
		t.Run(f.listen.Network+" "+f.listen.Address, func(t *testing.T) {
			g := newGround(t, 2, f.listen)
			g.keep()
			for _, client := range f.clients {
				counts, leave := g.stay(client, 20)
				g.even(counts, 2)
				socktest.Eventually(t, "all are known to be answered", func() bool {
					conns, waiting := g.sum()
					return conns == 20 && waiting == 0
				})
				leave()
			}
			g.none()
		})
	}
}

// TestEven: 400 connections that stay are spread evenly over four instances, also when
// one of them has crashed and come back.
func TestEven(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	for _, f := range families {
		t.Run(f.listen.Network+" "+f.listen.Address, func(t *testing.T) {
			g := newGround(t, 4, f.listen)
			g.keep()
			for _, client := range f.clients {
				counts, leave := g.stay(client, 400)
				g.even(counts, 4)
				leave()
			}
			g.none()
			client := f.clients[0]
			_, leave := g.stay(client, 200)
			g.restart(2)
			counts, leave2 := g.stay(client, 50)
			if counts["i002"] < 45 {
				t.Errorf("of 50 new connections the one that came back got %v", counts)
			}
			leave()
			leave2()
			g.none()
		})
	}
}

// TestNames: bpftool shows whose each program and map is, and what it is.
func TestNames(t *testing.T) {
	spec, err := loadBalance()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Concat(slices.Collect(maps.Keys(spec.Programs)), slices.Collect(maps.Keys(spec.Maps))) {
		if name != ".rodata" && (!strings.HasPrefix(name, "ar_") || len(name) >= unix.BPF_OBJ_NAME_LEN) {
			t.Errorf("%s does not begin with ar_, or is longer than %d bytes", name, unix.BPF_OBJ_NAME_LEN-1)
		}
	}
}
