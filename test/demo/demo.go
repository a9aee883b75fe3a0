package main

import (
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"app-rollout/test/load"
)

// demo is a machine.T, and prints what happens.
type demo struct {
	start   time.Time
	tty     bool
	chapter int

	mu       sync.Mutex
	cleanups []func()
	failed   bool
}

// stop is the panic of Fatalf, which has printed the reason.
type stop struct{}

func newDemo() *demo {
	_, err := unix.IoctlGetTermios(int(os.Stdout.Fd()), unix.TCGETS)
	return &demo{start: time.Now(), tty: err == nil}
}

// main runs the story and cleans up after it, whatever ends it. It returns the
// exit status.
func (d *demo) main(story func()) (status int) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		fmt.Println("\ninterrupted")
		d.cleanUp()
		os.Exit(130)
	}()
	defer d.cleanUp()
	defer func() {
		if r := recover(); r != nil {
			d.failed, status = true, 1
			if _, told := r.(stop); !told {
				fmt.Println("panic:", r)
			}
			return
		}
		fmt.Printf("\n%.0f s in all.\n", time.Since(d.start).Seconds())
	}()
	story()
	return 0
}

func (d *demo) cleanUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.cleanups) > 0 {
		last := len(d.cleanups) - 1
		cleanup := d.cleanups[last]
		d.cleanups = d.cleanups[:last]
		cleanup()
	}
}

func (d *demo) Cleanup(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cleanups = append(d.cleanups, f)
}

func (d *demo) Helper()      {}
func (d *demo) Name() string { return "demo" }
func (d *demo) Failed() bool { return d.failed }

func (d *demo) Logf(format string, args ...any) { d.say(format, args...) }

func (d *demo) Fatalf(format string, args ...any) {
	d.failed = true
	d.say(format, args...)
	panic(stop{})
}

func (d *demo) Skipf(format string, args ...any) { d.Fatalf(format, args...) }

func (d *demo) heading(text string) {
	d.chapter++
	fmt.Printf("\n%s\n", d.paint("1", fmt.Sprintf("%d. %s", d.chapter, text)))
}

func (d *demo) say(format string, args ...any) {
	for line := range strings.Lines(fmt.Sprintf(format, args...)) {
		fmt.Printf("   %s\n", strings.TrimSuffix(line, "\n"))
	}
}

// block shows a text as it is.
func (d *demo) block(text string) {
	for line := range strings.Lines(text) {
		d.say("  | %s", strings.TrimSuffix(line, "\n"))
	}
}

// lost is a text that says how many requests were lost, and how.
func (d *demo) lost(r *load.Report) string {
	text, colour := "lost: 0", "1;32"
	if r.Lost() > 0 {
		text, colour = fmt.Sprintf("lost: %d %v", r.Lost(), r.Kinds), "1;31"
	}
	return d.paint(colour, text)
}

func (d *demo) paint(colour, text string) string {
	if !d.tty {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}
