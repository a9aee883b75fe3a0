package sockets

import (
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
	const s = time.Second
	ids, now := map[uint64]string{7: "/a"}, time.Now()
	idle := Connection{Cookie: 1, Accepted: true, Cgroup: 7, BytesSent: 6, BytesReceived: 1, LastSent: s, LastReceived: 2 * s}
	owed := Connection{Cookie: 2, Accepted: true, Cgroup: 7, BytesReceived: 1, LastReceived: s}
	queued := Connection{Cookie: 3, Cgroup: 7, BytesReceived: 1}
	other := owed
	other.Cookie, other.Cgroup = 4, 8
	d := Drain{since: now.Add(-2 * s)}
	all := []Connection{idle, owed, queued, other, {HalfOpen: true, Age: s}, {HalfOpen: true, Age: 3 * s}}
	if got, want := d.count(all, ids, now), (Work{HalfOpen: 1, Queued: 1, Owed: 1, Idle: 1}); got != want || got.InHand() != 3 {
		t.Errorf("got %+v, want %+v", got, want)
	}
	// What is accepted meanwhile is counted all the time, and once.
	queued.Accepted = true
	if got, want := d.count([]Connection{idle, queued}, ids, now), (Work{Owed: 1, Idle: 1, Ended: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got, want := d.count(nil, ids, now), (Work{Ended: 3}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestRecent: whoever may be about to ask is waited for until it has asked.
func TestRecent(t *testing.T) {
	var d Drain
	now := time.Now()
	c := Connection{Cookie: 1, Accepted: true, Cgroup: 7, LastReceived: time.Minute}
	look := func(received uint64, lastSent time.Duration) Work {
		now = now.Add(2 * quiet)
		c.BytesReceived, c.BytesSent, c.LastSent = received, received, lastSent
		return d.count([]Connection{c}, map[uint64]string{7: "/a"}, now)
	}
	look(10, 0)
	d.Telling()
	for _, l := range []struct {
		received uint64
		lastSent time.Duration
		recent   int
	}{{20, 0, 1}, {20, recent, 0}, {20, 0, 1}, {30, 0, 0}, {30, 0, 0}} {
		if got := look(l.received, l.lastSent); got.Idle != 1 || got.Recent != l.recent {
			t.Errorf("%+v: %+v", l, got)
		}
	}
}

// TestRecentUpload: whose request was coming in when the telling began is not told by its
// answer. The client may be about to ask again.
func TestRecentUpload(t *testing.T) {
	var d Drain
	now := time.Now()
	look := func(received uint64, lastSent time.Duration) Work {
		c := Connection{Cookie: 1, Accepted: true, Cgroup: 7, BytesReceived: received, BytesSent: 10, LastSent: lastSent, LastReceived: 3 * time.Millisecond}
		now = now.Add(2 * quiet)
		return d.count([]Connection{c}, map[uint64]string{7: "/a"}, now)
	}
	const coming, answered = time.Minute, 0
	look(100, coming)
	d.Telling()
	look(200, coming)
	for _, l := range []struct {
		received uint64
		lastSent time.Duration
		want     Work
	}{{300, coming, Work{Owed: 1}}, {300, answered, Work{Idle: 1, Recent: 1}}, {400, coming, Work{Owed: 1}}, {400, answered, Work{Idle: 1}}} {
		if got := look(l.received, l.lastSent); got != l.want {
			t.Errorf("%+v: %+v", l, got)
		}
	}
}

// TestDrainRemembers: what one look cannot tell, the looks before it can. Each line is
// one look: what had been sent and received by then, and how long ago the last was sent.
func TestDrainRemembers(t *testing.T) {
	const ms = time.Millisecond
	type look struct {
		at, lastSent   time.Duration
		sent, received uint64
		want           Work
	}
	owed, idle, recent, stream := Work{Owed: 1}, Work{Idle: 1}, Work{Idle: 1, Recent: 1}, Work{Streams: 1}
	for name, looks := range map[string][]look{
		"an answer in pieces": {
			{0, 900 * ms, 100, 10, owed}, // may be in the middle of an answer
			{50 * ms, 950 * ms, 100, 10, owed},
			{100 * ms, 1000 * ms, 100, 10, idle},
			{200 * ms, 0, 150, 20, recent}, // asked and answered
			{300 * ms, 0, 200, 20, owed},   // goes on sending
			{1200 * ms, 900 * ms, 200, 20, owed},
			{1400 * ms, 1100 * ms, 200, 20, idle},
			{2400 * ms, 0, 250, 30, recent}, // asked anew
		},
		"server-sent events": {
			{0, 1500 * ms, 100, 10, idle},
			{500 * ms, 0, 150, 10, stream},
			{1600 * ms, 1100 * ms, 150, 10, stream},
		},
		"a WebSocket that is spoken to": {
			{0, 1500 * ms, 100, 10, idle},
			{500 * ms, 0, 150, 10, stream},
			{600 * ms, 0, 160, 20, stream},
			{1600 * ms, 1000 * ms, 160, 20, stream},
		},
	} {
		var d Drain
		start := time.Now()
		for _, l := range looks {
			c := Connection{
				Cookie: 1, Accepted: true, Cgroup: 7, BytesSent: l.sent, BytesReceived: l.received,
				LastSent: l.lastSent, LastReceived: time.Minute,
			}
			if got := d.count([]Connection{c}, map[uint64]string{7: "/a"}, start.Add(l.at)); got != l.want {
				t.Errorf("%s, after %v: %+v, want %+v", name, l.at, got, l.want)
			}
		}
	}
}

// TestEnd: what became of a connection, by its last look and by its end.
func TestEnd(t *testing.T) {
	const s = time.Second
	for name, c := range map[string]struct {
		before   progress
		end      Connection
		kind     kind
		answered bool
	}{
		"answered":                         {progress{kind: owed, sent: 5, received: 9}, Connection{BytesSent: 8, BytesReceived: 9, LastReceived: s}, owed, true},
		"answered, and closed by both":     {progress{kind: owed}, Connection{BytesSent: 8, BytesReceived: 10, ReadQueue: 1, WriteQueue: 1, LastReceived: s}, owed, true},
		"never answered":                   {progress{kind: owed, sent: 5, received: 9}, Connection{BytesSent: 5, BytesReceived: 9, LastSent: s}, owed, false},
		"never read":                       {progress{kind: owed, sent: 5}, Connection{BytesSent: 5, BytesReceived: 9, ReadQueue: 4, LastSent: s}, owed, false},
		"the client has not got it":        {progress{kind: owed}, Connection{BytesSent: 8, BytesReceived: 9, WriteQueue: 8, LastReceived: s}, owed, false},
		"nothing was asked":                {progress{kind: owed}, Connection{BytesReceived: 1, LastSent: s, LastReceived: s}, idle, false},
		"accepted late, and answered":      {progress{kind: queued}, Connection{BytesSent: 8, BytesReceived: 9, LastReceived: s}, queued, true},
		"in the middle":                    {progress{kind: sending, sent: 5}, Connection{BytesSent: 8, BytesReceived: 9, LastReceived: s}, sending, false},
		"at rest":                          {progress{kind: idle, sent: 5, received: 9}, Connection{BytesSent: 5, BytesReceived: 9, LastReceived: s}, idle, false},
		"at rest, then asked":              {progress{kind: idle, sent: 5, received: 9}, Connection{BytesSent: 5, BytesReceived: 12, LastSent: s}, owed, false},
		"at rest, then asked and answered": {progress{kind: idle, sent: 5, received: 9}, Connection{BytesSent: 8, BytesReceived: 12, LastReceived: s}, idle, false},
		"a WebSocket's goodbye":            {progress{kind: stream, sent: 5, received: 9}, Connection{BytesSent: 7, BytesReceived: 15, LastSent: s}, stream, false},
	} {
		if kind, answered := c.before.end(c.end); kind != c.kind || answered != c.answered {
			t.Errorf("%s: %d, %v, want %d, %v", name, kind, answered, c.kind, c.answered)
		}
	}
}
