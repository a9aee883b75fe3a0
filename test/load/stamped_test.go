package load

import (
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The time of an answer is when it came, however late it is read.
func TestStamped(t *testing.T) {
	release, err := holdStamps()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	addr := serve(t, func(c *net.TCPConn) {
		io.WriteString(c, head+"Content-Length: 3\r\n\r\nok\n")
		io.Copy(io.Discard, c) // a close may be taken together with the answer
	})
	// The kernel turns its clock for packets on only some time after it is asked.
	deadline := time.Now().Add(10 * time.Second)
	for !late(t, addr, deadline) {
		if time.Now().After(deadline) {
			t.Fatal("no answer had a time")
		}
	}
}

// late reads an answer after it has come, and says whether the kernel gave it a time.
func late(t *testing.T, addr string, deadline time.Time) bool {
	t.Helper()
	conn, err := dial(addr, deadline)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	asked := time.Now()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	for queued := 0; queued == 0; {
		if e := conn.raw.Control(func(fd uintptr) { queued, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }); e != nil || err != nil {
			t.Fatal(e, err)
		}
		if time.Now().After(deadline) {
			t.Fatal("no answer came")
		}
	}
	came := time.Now()
	if _, err := conn.Read(make([]byte, 1024)); err != nil {
		t.Fatal(err)
	}
	if conn.at.IsZero() {
		return false
	}
	if at := conn.at.UnixNano(); at < asked.UnixNano() || at > came.UnixNano() {
		t.Errorf("stamped %d ns after it was asked for, but had come after %d", at-asked.UnixNano(), came.UnixNano()-asked.UnixNano())
	}
	return true
}

// TestCame: an answer has come when its last byte has, not when the server closes.
func TestCame(t *testing.T) {
	release, err := holdStamps()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	closes := make(chan time.Time, 1)
	o := Options{Path: "/", Addr: serve(t, func(c *net.TCPConn) {
		io.WriteString(c, head+"Content-Length: 3\r\n\r\nok\n")
		time.Sleep(20 * time.Millisecond) // a server that closes late
		closes <- time.Now()
	})}
	// If this process gets no CPU for that long, the kernel may take the close
	// together with the answer. One attempt in which it does not is enough.
	var behind time.Duration
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		_, kind, detail, came := ask(o, deadline)
		if kind != OK {
			t.Fatalf("%s (%s)", kind, detail)
		}
		if closed := <-closes; !came.IsZero() {
			if behind = time.Duration(came.UnixNano() - closed.UnixNano()); behind <= 0 {
				return
			}
		}
	}
	t.Errorf("no answer came before it was to be closed; the last %v after", behind)
}
