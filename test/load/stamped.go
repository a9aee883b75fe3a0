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

// A stamped connection knows when the kernel took in what was read of it last.
// A client that shares its CPUs with what it asks would else count its own wait
// for one of them as the server's.
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

// holdStamps keeps the noting on: the kernel does it as long as any socket asks,
// and turning it on and off with each attempt would disturb what is measured.
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

// Read reads as the connection does, and takes the time of what was read.
func (s *stamped) Read(p []byte) (n int, err error) {
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
		return 0, os.NewSyscallError("recvmsg", err)
	case n == 0 && len(p) > 0:
		return 0, io.EOF
	}
	s.stamp(control[:got])
	return n, nil
}

// stamp takes the time from a control message: struct scm_timestamping of
// linux/errqueue.h, of which the first of three struct timespec is the kernel's.
func (s *stamped) stamp(control []byte) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPING && len(m.Data) >= 16 {
			s.at = time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:])))
		}
	}
}

// arrived is when what was read last had come; now, where the kernel did not say.
func (s *stamped) arrived() time.Time {
	if s.at.IsZero() {
		return time.Now()
	}
	return s.at
}
