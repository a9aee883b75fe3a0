package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

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
	l := &log{kmsg: f}
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

func TestGiveUp(t *testing.T) {
	var said []string
	var last *problem.Problem
	g := &generator{
		say:   func(_ level, err error) { said, last = append(said, err.Error()), problem.Of(err) },
		under: map[string]bool{"slow": true}, wrong: map[string][]error{"bad": {&problem.Problem{Path: "/etc/app-rollout/bad.env", Text: "is bad"}}, "linked": {&problem.Problem{Path: "/srv/x/.env", Text: "is bad"}}},
	}
	g.giveUp()
	delete(g.under, "slow")
	g.giveUp()
	want := "/etc/app-rollout/bad.env: is bad\nlinked: /srv/x/.env: is bad\n" +
		"/etc/app-rollout: gave up at slow, since it takes too long; what comes after is not generated; see app-rollout check\n" +
		"/etc/app-rollout: gave up, since it takes too long; what comes after is not generated; see app-rollout check"
	if got := strings.Join(said, "\n"); got != want {
		t.Errorf("said\n%s", got)
	}
	if last.Remedy != "see app-rollout check" {
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
