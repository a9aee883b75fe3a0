// Command guest runs inside the virtual machines of test/vm, from a unit of its
// own. It takes the machine through its life and writes what it finds to the
// second serial port, a line each: "FAIL …" for what is wrong, "ASK" and "ENOUGH" where
// clients on the host begin and end, "CUT" where the power is to be cut, "DONE" before
// it switches the machine off, and the rest for people.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// livesFile holds the number of lives that have ended. unsyncedFile is written
// past the kernel's cache, so that the disk's cache has something to lose.
const (
	livesFile    = "/var/lib/guest-lives"
	unsyncedFile = "/var/lib/guest-unsynced"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == "ask" {
		if err := askOn(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	port, err := os.OpenFile("/dev/ttyS1", os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	g := &guest{port: port}
	defer g.end()
	g.say("%s, %s, up after %s s", g.sh("uname -sr"), g.sh("systemctl --version | head -1"), g.sh("cut -d' ' -f1 /proc/uptime"))
	g.equal("the disk's cache", g.read("/sys/block/vda/queue/write_cache"), "write back")
	// Missing at first.
	ended, _ := os.ReadFile(livesFile)
	switch string(ended) {
	case "":
		g.firstLife()
	case "1":
		g.secondLife()
	default:
		g.thirdLife()
	}
}

type guest struct {
	port   *os.File
	failed bool
}

// stop is the panic that ends a life early.
type stop struct{}

func (g *guest) say(format string, args ...any) {
	fmt.Fprintln(g.port, strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "\n   "))
}

// fail reports what is wrong and goes on.
func (g *guest) fail(format string, args ...any) {
	g.failed = true
	g.say("FAIL "+strings.ReplaceAll(format, "\n", " "), args...)
}

// must reports what is wrong and ends the life, because nothing after it makes sense.
func (g *guest) must(format string, args ...any) {
	g.fail(format, args...)
	panic(stop{})
}

// cut runs the command begin and has the power cut as soon as a condition holds, in
// the middle of what begin has begun. Nothing that was written before begin is lost.
func (g *guest) cut(life, begin, what string, holds func() bool) {
	g.kernelLog()
	g.write(livesFile, life)
	g.write(unsyncedFile, strings.Repeat("-", 4096))
	g.sh("sync; " + begin)
	g.wait(what, 2*time.Minute, holds)
	if g.failed {
		panic(stop{})
	}
	g.sh("dd if=/dev/zero of=" + unsyncedFile + " bs=4096 count=1 oflag=direct conv=notrunc")
	g.say("CUT")
	select {}
}

// end switches the machine off. If something was wrong, it prints the machine's logs
// first.
func (g *guest) end() {
	if p := recover(); p != nil {
		if _, ours := p.(stop); !ours {
			g.fail("panic: %v", p)
		}
	}
	if g.failed {
		g.say("%s", g.try("journalctl -b --no-pager -o short-monotonic -n 400 _TRANSPORT=journal _TRANSPORT=stdout _TRANSPORT=syslog; dmesg | tail -60").out)
	}
	g.say("DONE")
	g.try("systemctl --no-block poweroff")
	select {} // until PID 1 ends us
}

// kernelLog fails for each problem in the kernel's log.
func (g *guest) kernelLog() {
	if trouble := g.try("dmesg | grep -E 'BUG:|WARNING:|Oops|refcount_t:|general protection|lockup|blocked for more'"); trouble.code == 0 {
		g.fail("the kernel: %s", trouble.out)
	}
}

type result struct {
	out  string // both streams
	code int
	took time.Duration
}

// commandLimit is far beyond what any command here takes, in emulation too.
const commandLimit = 3 * time.Minute

// try runs a shell script.
func (g *guest) try(script string) result {
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	defer cancel()
	began := time.Now()
	cmd := exec.CommandContext(ctx, "sh", "-euc", script)
	cmd.Env = append(os.Environ(), "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "SYSTEMD_PAGER=", "SYSTEMD_COLORS=0")
	out, err := cmd.CombinedOutput()
	r := result{out: strings.TrimSpace(string(out)), took: time.Since(began)}
	if err != nil {
		r.code = cmd.ProcessState.ExitCode()
	}
	return r
}

// sh runs a shell script that has to succeed, and returns what it printed.
func (g *guest) sh(script string) string {
	r := g.try(script)
	if r.code != 0 {
		g.must("%s: status %d: %s", script, r.code, r.out)
	}
	return r.out
}

// wait asks until a condition holds.
func (g *guest) wait(what string, limit time.Duration, holds func() bool) {
	for end := time.Now().Add(limit); !holds(); {
		if time.Now().After(end) {
			g.must("%s: not within %v", what, limit)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// equal fails unless got is want.
func (g *guest) equal(what, got, want string) {
	if got != want {
		g.fail("%s: %q, want %q", what, got, want)
	}
}

// property is one property of a unit.
func (g *guest) property(unit, name string) string {
	return g.sh("systemctl show --value --property=" + name + " -- " + unit)
}

// write makes a file that root owns.
func (g *guest) write(path, text string) {
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		g.must("%v", err)
	}
}

// read is the text of a file, without the last newline.
func (g *guest) read(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		g.must("%v", err)
	}
	return strings.TrimSuffix(string(text), "\n")
}
