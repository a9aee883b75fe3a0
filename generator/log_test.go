package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"app-rollout/units/problem"
)

// One record a write, short, without anything that a terminal or a log would
// take for more than text.
func TestLog(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "kmsg"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l := &log{fd: int(f.Fd())}
	l.say(failure, errors.New("one\ntwo\x1b[31m\u0085 three"))
	l.say(notice, errors.New(strings.Repeat("é", 1000)))
	text, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(lines) != 2 || !regexp.MustCompile(`^<27>app-rollout-generator\[\d+\]: onetwo\[31m three$`).MatchString(lines[0]) {
		t.Errorf("%q", lines)
	}
	if !strings.HasPrefix(lines[1], "<29>") || len(lines[1]) > maxRecord+60 || strings.ContainsRune(lines[1], '\ufffd') {
		t.Errorf("%d bytes: %q", len(lines[1]), lines[1])
	}
	// A log that cannot be written to changes nothing.
	f.Close()
	l.say(failure, errors.New("x"))
}

// Where the journal has to do for the kernel's log, it gets the same record. One that
// does not read is not waited for.
func TestLogToJournal(t *testing.T) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	read, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(read)
	l := &log{fd: fd, to: &unix.SockaddrUnix{Name: filepath.Join(t.TempDir(), "dev-log")}}
	l.say(failure, errors.New("nobody is there"))
	if err := unix.Bind(read, l.to); err != nil {
		t.Fatal(err)
	}
	for range 2000 { // more than a socket queues: net.unix.max_dgram_qlen
		l.say(failure, errors.New("one"))
	}
	record := make([]byte, 1000)
	n, err := unix.Read(read, record)
	if err != nil || !regexp.MustCompile(`^<27>app-rollout-generator\[\d+\]: one$`).Match(record[:n]) {
		t.Errorf("%q, %v", record[:n], err)
	}
}

func TestGiveUp(t *testing.T) {
	var said []string
	var last *problem.Problem
	g := &generator{
		say:   func(_ level, err error) { said, last = append(said, err.Error()), problem.Of(err) },
		under: map[string]bool{"slow": true}, wrong: map[string][]error{"bad": {&problem.Problem{Path: "/etc/app-rollout/bad.env", Text: "is bad"}}, "linked": {&problem.Problem{Path: "/srv/x/.env", Text: "is bad"}}},
	}
	g.giveUp(2*time.Second, 1900*time.Millisecond, false)
	delete(g.under, "slow")
	g.giveUp(9*time.Second, 400*time.Millisecond, true)
	want := "/etc/app-rollout/bad.env: is bad\nlinked: /srv/x/.env: is bad\n" +
		"/etc/app-rollout: gave up at slow after 2.0 s, and 1.9 s of CPU time; what comes after is not generated; see app-rollout check\n" +
		"/etc/app-rollout: gave up after 9.0 s, and 0.4 s of CPU time; what comes after is not generated; when the machine is less busy: systemctl daemon-reload"
	if got := strings.Join(said, "\n"); got != want {
		t.Errorf("said\n%s", got)
	}
	if last.Remedy != "when the machine is less busy: systemctl daemon-reload" {
		t.Errorf("said %+v", *last)
	}
}

// PID 1 waits for the generator, so it must not be able to ask anybody else:
// no network, no D-Bus, no NSS; and it needs no command line library.
func TestTalksToNobody(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Skip("left out: no go command here")
	}
	for dep := range strings.FieldsSeq(string(out)) {
		for _, bad := range []string{"net", "os/user", "runtime/cgo", "github.com/godbus", "github.com/coreos", "github.com/cilium", "github.com/mdlayher", "github.com/urfave"} {
			if dep == bad || strings.HasPrefix(dep, bad+"/") {
				t.Errorf("it depends on %s", dep)
			}
		}
	}
}

// The time for new apps is CPU time. A machine that gives hardly any gets longer, but not
// for ever.
func TestPass(t *testing.T) {
	began := time.Now()
	if busy := (limits{fresh: 100 * time.Millisecond, starved: 300 * time.Millisecond}).pass(); !busy {
		t.Error("without CPU time it is not the machine that is busy")
	}
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Errorf("over after %v", took)
	}
	var done atomic.Bool
	go func() {
		for !done.Load() {
		}
	}()
	defer done.Store(true)
	if busy := (limits{fresh: 50 * time.Millisecond, starved: time.Minute}).pass(); busy {
		t.Error("with CPU time it is not the machine that is busy")
	}
}
