// Command app-rollout-generator turns the apps of /etc/app-rollout into units
// (systemd.generator(7)). PID 1 runs it early at boot and at every
// daemon-reload, and waits for it. So it talks to no other process, waits for
// nothing, and always ends by itself and soon.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"app-rollout/units"
	"app-rollout/units/dotenv"
)

// limits are the times after which the generator gives up. What it has written by
// then is complete and valid. systemd's own time-out is far too long: from 253 on
// it stops the boot for good.
type limits struct {
	// recorded is for the apps that have a current generation. Only root's files are
	// copied for them; the limit is long, so that a slow disk leaves out no app.
	recorded time.Duration
	// fresh is for .env files that are read for the first time: so long, and so much CPU
	// time. On a busy machine the generator gets that CPU time later.
	fresh time.Duration
	// starved is the longest for these files, however busy the machine is.
	starved time.Duration
}

var usual = limits{recorded: 20 * time.Second, fresh: 1800 * time.Millisecond, starved: 9 * time.Second}

func main() {
	dotenv.ParserMain()
	os.Exit(generate(units.Layout{}, usual, os.Args[1:]))
}

// generate is the whole program; it returns the exit status.
func generate(layout units.Layout, limits limits, dirs []string) int {
	if len(dirs) != 1 && len(dirs) != 3 {
		fmt.Fprintln(os.Stderr, "usage: app-rollout-generator NORMAL-DIR [EARLY-DIR LATE-DIR]")
		return 2
	}
	// systemd sets this since version 251 (systemd.generator(7)).
	scope := os.Getenv("SYSTEMD_SCOPE")
	if scope == "user" || os.Getenv("SYSTEMD_IN_INITRD") == "1" {
		return 0
	}
	log := newLog(scope == "system")
	out, err := filepath.Abs(dirs[0])
	early := out
	if err == nil && len(dirs) == 3 {
		early, err = filepath.Abs(dirs[1])
	}
	if err != nil {
		log.say(failure, err)
		return 1
	}
	// The program ends before there is much garbage to collect.
	debug.SetGCPercent(400)
	layout, release := layout.Cached()
	defer release()
	g := &generator{layout: layout, out: out, early: early, say: log.say, under: map[string]bool{}, wrong: map[string][]error{}}
	began := time.Now()
	giveUp := func(busy bool) {
		g.giveUp(time.Since(began), cpuTime(), busy)
		os.Exit(1)
	}
	timer := time.AfterFunc(limits.recorded, func() { giveUp(cpuTime() < limits.recorded/2) })
	copied := func() {
		timer.Stop()
		go func() { giveUp(limits.pass()) }()
	}
	if !g.run(copied) {
		return 1
	}
	return 0
}

// pass returns when the time for new apps is over, and whether that is so because the
// machine is busy.
func (l limits) pass() (busy bool) {
	began, before := time.Now(), cpuTime()
	for rest := l.fresh; ; rest = l.fresh / 20 {
		time.Sleep(rest)
		if cpuTime()-before >= l.fresh {
			return false
		}
		if time.Since(began) >= l.starved {
			return true
		}
	}
}

// cpuTime is what this process has used, and the parsers that have ended.
func cpuTime() (sum time.Duration) {
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var used unix.Rusage
		if unix.Getrusage(who, &used) == nil {
			sum += time.Duration(used.Utime.Nano() + used.Stime.Nano())
		}
	}
	return sum
}
