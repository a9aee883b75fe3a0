package sockets_test

import (
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/sockets/socktest"

	"golang.org/x/sys/unix"
)

func view(t *testing.T) *sockets.View {
	t.Helper()
	v, err := sockets.Look()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func listenersOf(t *testing.T, cgroup string) []sockets.Listener {
	t.Helper()
	in, err := view(t).In(cgroup)
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(in, func(a, b sockets.Listener) int { return a.Group.Compare(b.Group) })
	return in
}

func TestListeners(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	cgroup := socktest.Cgroup(t, "a")
	socktest.Start(t, cgroup, socktest.Config{Name: "a", Listen: []socktest.Listen{
		{Network: "tcp4", Address: "0.0.0.0:8081", Count: 2},
		{Network: "tcp4", Address: "127.0.0.1:8082"},
		{Network: "tcp6", Address: "[::]:8083"},
		{Network: "tcp", Address: "[::]:8084"},
		{Network: "tcp4", Address: "127.0.0.1:8085", MPTCP: true},
	}})
	other := socktest.Cgroup(t, "b")
	socktest.Start(t, other, socktest.Config{Name: "b", Listen: []socktest.Listen{{Network: "tcp4", Address: "127.0.0.1:9090"}}})

	var got []string
	cookies := make(map[uint64]bool)
	for _, l := range listenersOf(t, cgroup) {
		s := l.Group.String()
		if l.MPTCP {
			s += " MPTCP"
		}
		got = append(got, s)
		cookies[l.Cookie] = true
		if l.UID != 0 || l.Inode == 0 || l.Queued != 0 {
			t.Errorf("%+v: want user 0, an inode, nothing queued", l)
		}
	}
	want := []string{"0.0.0.0:8081", "0.0.0.0:8081", "127.0.0.1:8082", "127.0.0.1:8085 MPTCP", "[::]:8083 (IPv6 only)", "[::]:8084"}
	if !slices.Equal(got, want) {
		t.Errorf("listeners %q, want %q", got, want)
	}
	if len(cookies) != len(want) {
		t.Errorf("%d cookies for %d sockets", len(cookies), len(want))
	}
	theirs := listenersOf(t, other)
	if len(theirs) != 1 {
		t.Fatalf("the other one has %d listeners, want 1", len(theirs))
	}
	if path, ok := sockets.CgroupPath(theirs[0].Cgroup); !ok || path != other {
		t.Errorf("CgroupPath = %q, %v, want %q", path, ok, other)
	}
	if id, err := sockets.CgroupID(other); err != nil || id != theirs[0].Cgroup {
		t.Errorf("CgroupID = %d, %v, want %d", id, err, theirs[0].Cgroup)
	}
	if above := listenersOf(t, filepath.Dir(other)); len(above) != len(want)+1 {
		t.Errorf("%d listeners in the group above, want %d", len(above), len(want)+1)
	}
	if gone := listenersOf(t, "/no-such-group"); len(gone) != 0 {
		t.Errorf("%d listeners in a group that is not there", len(gone))
	}
	if _, ok := sockets.CgroupPath(1 << 40); ok {
		t.Error("a group that is not there has a path")
	}
}

func TestQueued(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	cgroup := socktest.Cgroup(t, "a")
	server := socktest.Start(t, cgroup, socktest.Config{Name: "a", Lazy: true, Listen: []socktest.Listen{{Network: "tcp4", Address: "127.0.0.1:8080"}}})
	drain := sockets.NewDrain([]string{cgroup}, groups(t, cgroup), time.Now())
	for range 3 {
		client, err := socktest.Connect("127.0.0.1:8080")
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
	}
	socktest.Eventually(t, "three connections are queued", func() bool {
		return listenersOf(t, cgroup)[0].Queued == 3
	})
	if work, err := drain.Left(view(t)); err != nil || work != (sockets.Work{Queued: 3}) {
		t.Errorf("work %+v, %v, want 3 queued", work, err)
	}
	server.Do(t, "accept")
	socktest.Eventually(t, "none is queued", func() bool { return listenersOf(t, cgroup)[0].Queued == 0 })
}

func groups(t *testing.T, cgroup string) []sockets.Group {
	var groups []sockets.Group
	for _, l := range listenersOf(t, cgroup) {
		groups = append(groups, l.Group)
	}
	return groups
}

func TestOpen(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	cgroup := socktest.Cgroup(t, "a")
	server := socktest.Start(t, cgroup, socktest.Config{Name: "a", Listen: []socktest.Listen{{Network: "tcp4", Address: "127.0.0.1:8080", Count: 3}}})
	wanted := listenersOf(t, cgroup)
	opened, err := sockets.Open(cgroup, wanted)
	if err != nil || len(opened) != 3 {
		t.Fatalf("%d opened, %v, want 3", len(opened), err)
	}
	for _, s := range opened {
		name, err := unix.Getsockname(s.FD())
		if err != nil || name.(*unix.SockaddrInet4).Port != 8080 {
			t.Errorf("the descriptor is of %v, %v", name, err)
		}
		if flags, _ := unix.FcntlInt(uintptr(s.FD()), unix.F_GETFL, 0); flags&unix.O_NONBLOCK == 0 {
			t.Error("the process's flags were changed")
		}
	}
	sockets.Close(opened)
	if _, err := socktest.Who("127.0.0.1:8080"); err != nil {
		t.Errorf("the server does not answer any more: %v", err)
	}
	server.Kill()
	if opened, err := sockets.Open(cgroup, wanted); err != nil || len(opened) != 0 {
		t.Errorf("of a dead process: %d opened, %v", len(opened), err)
	}
}

func TestElsewhere(t *testing.T) {
	if !socktest.Isolated(t, unix.CAP_SYS_ADMIN) {
		return
	}
	here := socktest.Cgroup(t, "here")
	socktest.Start(t, here, socktest.Config{Name: "here"})
	there := socktest.Cgroup(t, "there")
	socktest.Start(t, there, socktest.Config{Name: "there", Elsewhere: true})
	for path, want := range map[string]bool{here: false, there: true, "/no-such-group": false} {
		if got, err := sockets.Elsewhere(path); err != nil || got != want {
			t.Errorf("Elsewhere(%s) = %v, %v, want %v", path, got, err, want)
		}
	}
}

// one returns the server's side of the only connection.
func one(t *testing.T) (c sockets.Connection) {
	t.Helper()
	socktest.Eventually(t, "there is one connection", func() bool {
		connections, err := sockets.Connections(8080)
		if err != nil {
			t.Fatal(err)
		}
		if len(connections) != 1 {
			return false
		}
		c = connections[0]
		return true
	})
	return c
}

// TestOwedByServer reads the rule's cases from a real server.
func TestOwedByServer(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	cgroup := socktest.Cgroup(t, "a")
	socktest.Start(t, cgroup, socktest.Config{Name: "a", Listen: []socktest.Listen{{Network: "tcp", Address: "[::]:8080"}}})
	id, _ := sockets.CgroupID(cgroup)
	client, err := socktest.Connect("127.0.0.1:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	say := func(line string) {
		if err := client.Say(line); err != nil {
			t.Fatal(err)
		}
	}
	hear := func() {
		if _, err := client.Hear(); err != nil {
			t.Fatal(err)
		}
	}

	c := one(t)
	if c.Cgroup != id || c.Remote.Port() == 0 || !c.Owed() {
		t.Errorf("fresh: %+v, want owed, control group %d", c, id)
	}
	socktest.Eventually(t, "a silent connection is idle", func() bool { return !one(t).Owed() })

	for _, round := range []string{"first", "later"} {
		say("400ms")
		socktest.Eventually(t, round+" request is read", func() bool { c := one(t); return c.BytesReceived > 0 && c.ReadQueue == 0 && c.Owed() })
		if c := one(t); !c.Owed() {
			t.Errorf("%s request in hand: %+v, want owed", round, c)
		}
		hear()
		socktest.Eventually(t, round+" request is answered", func() bool { return !one(t).Owed() })
		if c := one(t); c.BytesSent == 0 || c.LastSent >= c.LastReceived {
			t.Errorf("%s request answered 400 ms later: %+v, want sent later than received", round, c)
		}
	}
	say("fast")
	hear()
	if c := one(t); c.LastSent == c.LastReceived && !c.Owed() {
		t.Errorf("%+v: ambiguous, want owed", c)
	}
	socktest.Eventually(t, "an answer within one tick is over", func() bool { return !one(t).Owed() })

	owner, found, err := sockets.Owner(one(t).Local, one(t).Remote)
	if err != nil || !found || owner != id {
		t.Errorf("Owner = %d, %v, %v, want %d", owner, found, err, id)
	}
}

// TestOwner: the kernel tells whose a connection is, whatever family it comes in,
// and of one that nobody has it tells nothing.
func TestOwner(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	cgroup := socktest.Cgroup(t, "a")
	id, err := sockets.CgroupID(cgroup)
	if err != nil {
		t.Fatal(err)
	}
	server := socktest.Start(t, cgroup, socktest.Config{Name: "a", Lazy: true, Listen: []socktest.Listen{
		{Network: "tcp4", Address: "0.0.0.0:8081"},
		{Network: "tcp6", Address: "[::]:8082"},
		{Network: "tcp", Address: "[::]:8083"},
		{Network: "tcp4", Address: "127.0.0.1:8084", Deferred: true},
	}})
	var last net.Conn
	for address, want := range map[string]bool{"127.0.0.1:8081": true, "[::1]:8082": true, "127.0.0.1:8083": true, "[::1]:8083": true, "127.0.0.1:8084": false} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		owner, found, err := sockets.Server(conn)
		if err != nil || found != want || want && owner != id {
			t.Errorf("%s: %d, %v, %v, want %d", address, owner, found, err, id)
		}
		if want {
			last = conn
		}
	}
	client := last.LocalAddr().(*net.TCPAddr).AddrPort()
	address := last.RemoteAddr().(*net.TCPAddr).AddrPort()
	if owner, found, err := sockets.Owner(address, netip.AddrPortFrom(client.Addr(), client.Port()-1)); err != nil || found {
		t.Errorf("where there is none: %d, %v", owner, err)
	}
	server.Kill()
	socktest.Eventually(t, "the connection is nobody's", func() bool {
		_, found, err := sockets.Owner(address, client)
		return err == nil && !found
	})
}

func TestDrain(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	cgroup := socktest.Cgroup(t, "a")
	socktest.Start(t, cgroup, socktest.Config{Name: "a", Listen: []socktest.Listen{{Network: "tcp4", Address: "127.0.0.1:8080"}}})
	client, err := socktest.Connect("127.0.0.1:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	one(t)
	drain := sockets.NewDrain([]string{cgroup}, groups(t, cgroup), time.Now())
	look := func() sockets.Work {
		work, err := drain.Left(view(t))
		if err != nil {
			t.Fatal(err)
		}
		return work
	}
	if err := client.Say("stream 4 300ms"); err != nil {
		t.Fatal(err)
	}
	heard := make(chan bool)
	go func() {
		client.Hear()
		close(heard)
	}()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for streaming := true; streaming; {
		work := look()
		select {
		case <-heard:
			streaming = false
		case <-tick.C:
			if work.InHand() == 0 {
				t.Fatalf("in the middle of an answer: %+v", work)
			}
		}
	}
	socktest.Eventually(t, "the answer is over", func() bool { w := look(); return w.InHand() == 0 && w.Idle == 1 })
}

// TestSettle: what is answered after the last look counts as ended, and what the death
// of the server leaves without an answer does not.
func TestSettle(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	cgroup := socktest.Cgroup(t, "a")
	server := socktest.Start(t, cgroup, socktest.Config{Name: "a", Listen: []socktest.Listen{{Network: "tcp4", Address: "127.0.0.1:8080"}}})
	say := func(line string) *socktest.Client {
		client, err := socktest.Connect("127.0.0.1:8080")
		if err == nil {
			err = client.Say(line)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { client.Close() })
		return client
	}
	rests := say("who")
	if _, err := rests.Hear(); err != nil {
		t.Fatal(err)
	}
	say("1m")
	slow := say("2s")
	drain := sockets.NewDrain([]string{cgroup}, groups(t, cgroup), time.Now())
	socktest.Eventually(t, "one is at rest, two are asked", func() bool {
		work, err := drain.Left(view(t))
		return err == nil && work == sockets.Work{Owed: 2, Idle: 1}
	})
	if err := drain.Follow(); err != nil {
		t.Fatal(err)
	}
	if _, err := slow.Hear(); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	if got, want := drain.Settle(), (sockets.Work{Owed: 1, Idle: 1, Ended: 1}); got != want {
		t.Errorf("settled as %+v, want %+v", got, want)
	}
}

func TestHalfOpen(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	cgroup := socktest.Cgroup(t, "a")
	socktest.Start(t, cgroup, socktest.Config{Name: "a", Listen: []socktest.Listen{{Network: "tcp4", Address: "127.0.0.1:8080", Deferred: true}}})
	began := time.Now()
	client, err := socktest.Connect("127.0.0.1:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c := one(t)
	if !c.HalfOpen || c.Owed() {
		t.Errorf("%+v, want half open and not owed", c)
	}
	if age := time.Since(began); c.Age > age+20*time.Millisecond {
		t.Errorf("age %v, began %v ago", c.Age, age)
	}
	work := func(since time.Time) sockets.Work {
		w, err := sockets.NewDrain([]string{cgroup}, groups(t, cgroup), since).Left(view(t))
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	if w := work(began.Add(-time.Minute)); w.HalfOpen != 0 {
		t.Errorf("begun after the switch: %+v", w)
	}
	socktest.Eventually(t, "it is older than the switch", func() bool { return work(time.Now()).HalfOpen == 1 })
	if err := client.Say("who"); err != nil {
		t.Fatal(err)
	}
	if name, err := client.Hear(); err != nil || name != "a" {
		t.Errorf("%q, %v", name, err)
	}
}

func TestReadCounters(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	c, err := sockets.ReadCounters()
	if err != nil || c != (sockets.Counters{}) {
		t.Errorf("in a fresh network namespace: %+v, %v", c, err)
	}
	grown := sockets.Counters{MigrateSuccess: 3, MigrateFailure: 1, ListenDrops: 2, ListenOverflows: 4}
	if d := grown.Since(sockets.Counters{MigrateSuccess: 1, ListenOverflows: 4}); d != (sockets.Counters{MigrateSuccess: 2, MigrateFailure: 1, ListenDrops: 2}) {
		t.Errorf("grown by %+v", d)
	}
}
