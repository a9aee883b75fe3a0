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
	// fresh is for .env files that are read for the first time.
	fresh time.Duration
}

var usual = limits{recorded: 20 * time.Second, fresh: 1800 * time.Millisecond}

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
	timer := time.AfterFunc(limits.recorded, func() {
		g.giveUp()
		os.Exit(1)
	})
	if !g.run(func() { timer.Reset(limits.fresh) }) {
		return 1
	}
	return 0
}
