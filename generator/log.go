package main

import (
	"fmt"
	"os"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"
)

// level is a syslog priority with the daemon facility, as the kernel's log
// takes it (syslog(3), /dev/kmsg in the kernel's ABI documentation).
type level int

const (
	failure level = 3<<3 | 3
	notice  level = 3<<3 | 5
)

// maxRecord is in bytes, well below the size at which the kernel cuts a line.
const maxRecord = 900

// log writes each message as one line to stderr, for a person. When PID 1 runs the
// generator, it writes it to the kernel's log too, because at boot the journal does not
// run yet. In a container there may be no kernel log, or a FIFO that nobody reads in its
// place: there it writes to the journal, which at least a daemon-reload finds running.
//
// It never waits for who reads, because PID 1 waits for the generator.
type log struct {
	fd int           // -1: none
	to unix.Sockaddr // nil: fd is the kernel's log
}

// journal is the socket on which journald takes what syslog(3) sends.
const journal = "/run/systemd/journal/dev-log"

func newLog(kernel bool) *log {
	if !kernel {
		return &log{fd: -1}
	}
	var st unix.Stat_t
	fd, err := unix.Open("/dev/kmsg", unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err == nil && unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR {
		return &log{fd: fd}
	}
	// Without any log the units are generated all the same.
	if fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		fd = -1
	}
	return &log{fd: fd, to: &unix.SockaddrUnix{Name: journal}}
}

func (l *log) say(at level, err error) {
	text := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, err.Error())
	if len(text) > maxRecord {
		text = strings.ToValidUTF8(text[:maxRecord], "") + "…"
	}
	fmt.Fprintln(os.Stderr, "app-rollout-generator: "+text)
	record := fmt.Appendf(nil, "<%d>app-rollout-generator[%d]: %s", at, os.Getpid(), text)
	// A record that the log does not take is lost.
	switch {
	case l.fd < 0:
	case l.to != nil:
		_ = unix.Sendto(l.fd, record, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, l.to)
	default:
		_, _ = unix.Write(l.fd, append(record, '\n'))
	}
}
