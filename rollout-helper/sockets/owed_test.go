package sockets

import (
	"net/netip"
	"testing"
	"time"
)

func TestOwed(t *testing.T) {
	const ms = time.Millisecond
	for _, test := range []struct {
		name string
		Connection
		owed bool
	}{
		{"half open", Connection{HalfOpen: true, Age: 10 * ms}, false},
		{"just connected", Connection{LastSent: 12 * ms, LastReceived: 12 * ms}, true},
		{"connected, nothing asked for half a second", Connection{LastSent: 512 * ms, LastReceived: 512 * ms}, true},
		{"connected, nothing asked for long", Connection{LastSent: 1512 * ms, LastReceived: 1512 * ms}, false},
		{"the server greeted, nothing asked", Connection{BytesSent: 20, LastSent: 12 * ms, LastReceived: 12 * ms}, false},
		{"first request being worked on", Connection{BytesReceived: 4, LastSent: 504 * ms, LastReceived: 504 * ms}, true},
		{"first request being worked on for long", Connection{BytesReceived: 4, LastSent: 9504 * ms, LastReceived: 9504 * ms}, true},
		{"answered, within one tick", Connection{BytesSent: 6, BytesReceived: 1, LastSent: 504 * ms, LastReceived: 504 * ms}, true},
		{"answered, within one tick, long ago", Connection{BytesSent: 6, BytesReceived: 1, LastSent: 1004 * ms, LastReceived: 1004 * ms}, false},
		{"answered, sent last", Connection{BytesSent: 6, BytesReceived: 1, LastSent: 4 * ms, LastReceived: 504 * ms}, false},
		{"later request being worked on", Connection{BytesSent: 6, BytesReceived: 5, LastSent: 604 * ms, LastReceived: 500 * ms}, true},
		{"later request being worked on for long", Connection{BytesSent: 6, BytesReceived: 5, LastSent: 9604 * ms, LastReceived: 9500 * ms}, true},
		{"later request within one tick of the answer before", Connection{BytesSent: 6, BytesReceived: 5, LastSent: 504 * ms, LastReceived: 504 * ms}, true},
		{"not read yet", Connection{BytesSent: 6, BytesReceived: 5, ReadQueue: 4, LastSent: 4 * ms, LastReceived: 504 * ms}, true},
		{"not acknowledged yet", Connection{BytesSent: 6, BytesReceived: 5, WriteQueue: 1, LastSent: 4000 * ms, LastReceived: 5000 * ms}, true},
	} {
		if got := test.Owed(); got != test.owed {
			t.Errorf("%s: Owed() = %v, want %v", test.name, got, test.owed)
		}
	}
}

func TestConnectionClosedByClient(t *testing.T) {
	info := make([]byte, 256)
	put := func(offset uintptr, v byte) { info[offset] = v } // little or big end: the tests look for 0 only
	put(infoBytesReceived, 1)
	if c := connection(row{state: stateEstablished, info: info, rqueue: 1}); c.BytesReceived == 0 || c.ReadQueue != 1 {
		t.Errorf("open: %+v, want the byte counted", c)
	}
	if infoBytesSent != 200 || infoLastReceived != 52 {
		t.Errorf("offsets %d, %d are not those of linux/tcp.h", infoBytesSent, infoLastReceived)
	}
	c := connection(row{state: stateCloseWait, rqueue: 1})
	if c.BytesReceived != 0 || c.ReadQueue != 0 {
		t.Errorf("closed by the client: %+v, want its FIN not counted", c)
	}
}

func TestAge(t *testing.T) {
	for _, test := range []struct {
		retransmits uint8
		expires     time.Duration
		age         time.Duration
	}{
		{0, time.Second, 0},
		{0, 900 * time.Millisecond, 100 * time.Millisecond},
		{0, 2 * time.Second, 0},
		{1, 2 * time.Second, time.Second},
		{2, 1 * time.Second, 6 * time.Second},
	} {
		if got := age(row{retransmits: test.retransmits, expires: test.expires}); got != test.age {
			t.Errorf("age(%d, %v) = %v, want %v", test.retransmits, test.expires, got, test.age)
		}
	}
}

func TestWorkCount(t *testing.T) {
	ids := map[uint64]bool{7: true}
	client := netip.MustParseAddrPort("10.0.0.1:1234")
	idle := Connection{Cgroup: 7, BytesSent: 6, BytesReceived: 1, LastSent: 1, LastReceived: 2, Remote: client}
	owed := Connection{Cgroup: 7, BytesReceived: 1, Remote: client}
	other := owed
	other.Cgroup = 8
	connections := []Connection{
		idle, owed, other,
		{HalfOpen: true, Age: time.Second}, {HalfOpen: true, Age: 3 * time.Second},
	}
	var work Work
	work.count(connections, ids, 2*time.Second, nil)
	if want := (Work{HalfOpen: 1, Owed: 1, Idle: 1}); work != want {
		t.Errorf("got %+v, want %+v", work, want)
	}
	work = Work{}
	work.count([]Connection{idle}, ids, 0, map[[2]netip.AddrPort]bool{{idle.Local, idle.Remote}: true})
	if want := (Work{Owed: 1}); work != want || work.InHand() != 1 {
		t.Errorf("an answer being sent: got %+v, want %+v", work, want)
	}
}

func TestDrainRemembers(t *testing.T) {
	ids := map[uint64]bool{7: true}
	var d Drain
	start := time.Now()
	c := Connection{Cgroup: 7, LastSent: 900 * time.Millisecond}
	key := [2]netip.AddrPort{c.Local, c.Remote}
	step := func(after time.Duration, sent, received uint64) bool {
		c.BytesSent, c.BytesReceived = sent, received
		return d.remember([]Connection{c}, ids, start.Add(after))[key]
	}
	for _, s := range []struct {
		after          time.Duration
		sent, received uint64
		sending        bool
	}{
		{0, 100, 10, true}, // may be in the middle of an answer
		{50 * time.Millisecond, 100, 10, true},
		{100 * time.Millisecond, 100, 10, false},
		{200 * time.Millisecond, 150, 20, false}, // asked and answered
		{300 * time.Millisecond, 200, 20, true},  // goes on sending
		{1200 * time.Millisecond, 200, 20, true},
		{1400 * time.Millisecond, 200, 20, false},
	} {
		if got := step(s.after, s.sent, s.received); got != s.sending {
			t.Errorf("after %v: sending %v, want %v", s.after, got, s.sending)
		}
	}
}
