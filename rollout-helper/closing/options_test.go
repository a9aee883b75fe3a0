package closing

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"app-rollout/rollout-helper/sockets/socktest"

	"golang.org/x/sys/unix"
)

// TestMultipath: a connection of Multipath TCP is left alone. Its data may have a
// checksum of its own, and may be sent again on another path, as it was.
func TestMultipath(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	head := lines(ok, date)
	path := socktest.Cgroup(t, cgroup)
	for at, multipath := range map[string]bool{"127.0.0.1:8080": true, "127.0.0.1:8081": false} {
		socktest.Start(t, path, socktest.Config{Name: head, Listen: []socktest.Listen{{Network: "tcp4", Address: at, MPTCP: multipath}}})
	}
	c := opened(t, "shop", (*Closing).attach)
	defer closed(t, c)
	if err := c.Tell([]string{path}); err != nil {
		t.Fatal(err)
	}
	var dialer net.Dialer
	dialer.SetMultipathTCP(true)
	for at, want := range map[string]string{"127.0.0.1:8080": date, "127.0.0.1:8081": in(date)} {
		conn, err := dialer.DialContext(context.Background(), "tcp4", at)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		is, err := conn.(*net.TCPConn).MultipathTCP()
		if err != nil {
			t.Fatal(err)
		}
		if !is && want == date {
			t.Skip("the kernel has no Multipath TCP, or it is off")
		}
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(conn, get)
		got := make([]byte, len(head))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != lines(ok, want) {
			t.Errorf("%s: %q, %v", at, got, err)
		}
	}
}

// TestSigned: a connection with signed packets (RFC 2385) is left alone. A packet that was
// changed would not arrive.
func TestSigned(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	b := newBed(t, "tcp4", address, (*Closing).attach)
	sign := func(raw syscall.RawConn) (err error) {
		signature := &unix.TCPMD5Sig{Keylen: 3, Key: [80]byte{'k', 'e', 'y'}}
		signature.Addr = sockaddr()
		return errors.Join(raw.Control(func(fd uintptr) {
			err = unix.SetsockoptTCPMD5Sig(int(fd), unix.IPPROTO_TCP, unix.TCP_MD5SIG, signature)
		}), err)
	}
	raw, err := b.listener.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := sign(raw); errors.Is(err, unix.ENOPROTOOPT) {
		t.Skip("the kernel signs no packets")
	} else if err != nil {
		t.Fatal(err)
	}
	b.tell(t)
	dialer := net.Dialer{Timeout: 10 * time.Second, Control: func(_, _ string, raw syscall.RawConn) error { return sign(raw) }}
	client, err := dialer.Dial("tcp4", b.address)
	if err != nil {
		t.Fatal(err)
	}
	app, err := b.listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	defer app.Close()
	p := pair{client, app}
	p.ask(t, get)
	p.answer(t, lines(ok, date), lines(ok, date))
}

// sockaddr is 127.0.0.1, any port.
func sockaddr() (s unix.SockaddrStorage) {
	s.Family = unix.AF_INET
	copy(s.Data[2:], []byte{127, 0, 0, 1})
	return s
}
