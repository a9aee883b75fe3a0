package main

import (
	"fmt"
	"os"
	"strings"
	"unicode"
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

// log writes each message as one line to stderr, for a person, and, when PID 1
// runs the generator, to the kernel's log, because the journal does not run yet.
type log struct{ kmsg *os.File }

func newLog(kernel bool) *log {
	if !kernel {
		return &log{}
	}
	// Without the kernel's log the units are generated all the same.
	f, _ := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	return &log{kmsg: f}
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
	if l.kmsg != nil {
		fmt.Fprintf(l.kmsg, "<%d>app-rollout-generator[%d]: %s\n", at, os.Getpid(), text)
	}
}
