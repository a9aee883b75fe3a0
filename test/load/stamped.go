package load

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A stamped connection knows when the kernel received the data that was read last.
// A client shares its CPUs with the server. Without this time its own wait for a
// CPU, to read the answer, would count as the server's. (Its waits until it has sent
// the request are still counted.)
type stamped struct {
	net.Conn
	raw syscall.RawConn
	at  time.Time // zero: the kernel gave no time
}

// stamps has the kernel note when packets arrive, see timestamping.rst of the
// kernel's documentation.
func stamps(fd uintptr) error {
	return unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPING,
		unix.SOF_TIMESTAMPING_RX_SOFTWARE|unix.SOF_TIMESTAMPING_SOFTWARE)
}

// holdStamps keeps the kernel's notes on. The kernel notes times as long as any
// socket asks for them, and turning that on and off with each attempt would disturb
// what is measured.
func holdStamps() (release func(), err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := stamps(uintptr(fd)); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("setsockopt", err)
	}
	return func() { unix.Close(fd) }, nil
}

func dial(addr string, deadline time.Time) (*stamped, error) {
	d := net.Dialer{Deadline: deadline, Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) { err = os.NewSyscallError("setsockopt", stamps(fd)) }); e != nil {
			return e
		}
		return err
	}}
	conn, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &stamped{Conn: conn, raw: raw}, nil
}

// Read reads from the connection, and keeps the time of what it has read.
func (s *stamped) Read(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	var control [64]byte
	var got int
	e := s.raw.Read(func(fd uintptr) bool {
		for {
			n, got, _, _, err = unix.Recvmsg(int(fd), p, control[:], 0)
			if err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	switch {
	case e != nil: // its deadline has passed
		return 0, e
	case err != nil:
		return 0, &net.OpError{Op: "read", Net: "tcp", Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: os.NewSyscallError("recvmsg", err)}
	case n == 0:
		return 0, io.EOF
	}
	s.stamp(control[:got])
	return n, nil
}

// stamp takes the time from a control message, a struct scm_timestamping of
// linux/errqueue.h. The first of its three times is the kernel's.
func (s *stamped) stamp(control []byte) {
	s.at = time.Time{}
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return
	}
	for _, m := range messages {
		var times unix.ScmTimestamping
		if m.Header.Level != unix.SOL_SOCKET || m.Header.Type != unix.SCM_TIMESTAMPING {
			continue
		}
		if _, err := binary.Decode(m.Data, binary.NativeEndian, &times); err == nil {
			s.at = time.Unix(times.Ts[0].Unix())
		}
	}
}

// ended says whether the server has closed or reset the connection, without waiting.
func (s *stamped) ended() bool {
	ended := false
	var one [1]byte
	err := s.raw.Control(func(fd uintptr) {
		n, _, err := unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		ended = err == nil && n == 0 || err != nil && err != unix.EAGAIN && err != unix.EINTR
	})
	return err != nil || ended
}
