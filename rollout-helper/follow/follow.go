package follow

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"app-rollout/rollout-helper/journal"
	"app-rollout/rollout-helper/rollout"
)

// tick is the time between two looks at a service, and between two drawings of the
// live lines.
const tick = 100 * time.Millisecond

// All starts the services and shows what they log until all have ended. failed says
// that one of them failed and that this has been printed.
//
// The first Ctrl-C is passed on to the services that can still go back; a committed
// rollout is finished. The second Ctrl-C leaves the services to go on alone.
func All(m rollout.Systemd, services []string, v *View) (failed bool, err error) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM)
	defer signal.Stop(signals)
	// A signal does not end this at once, because the records that follow it matter.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	records, ends := make(chan journal.Record), make(chan end)
	var runs []*run
	for _, service := range services {
		r := &run{systemd: m, layout: v.eyes.Layout, service: service, records: records, interrupted: make(chan struct{})}
		runs = append(runs, r)
		go func() { ends <- r.follow(ctx) }()
	}
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	interrupted := false
	for left := len(runs); left > 0; {
		select {
		case r := <-records:
			v.record(r)
		case e := <-ends:
			left--
			if err = cmp.Or(err, e.err); e.failed != "" {
				failed = true
				v.broke(e.service, e.failed)
			}
		case <-ticker.C:
			v.draw(ctx)
		case <-signals:
			if interrupted {
				v.clear()
				return false, unfollowed(services)
			}
			interrupted = true
			v.note(interrupt(runs, v))
		}
	}
	v.summary(ctx)
	return failed, err
}

// unfollowed is the error of a person who does not wait for the services any longer.
func unfollowed(services []string) error {
	return fmt.Errorf("no longer followed; it goes on: journalctl -f -u %s", strings.Join(services, " -u "))
}

// interrupt stops the services that can still go back, and says what happens to
// all of them.
func interrupt(runs []*run, v *View) string {
	back := false
	for _, r := range runs {
		if !v.committed(r.service) {
			back = true
			close(r.interrupted)
		}
	}
	if back {
		return "interrupted: what is not committed goes back, what is committed is finished (Ctrl-C again: do not wait for it)"
	}
	return "interrupted, but it is committed already, and is finished (Ctrl-C again: do not wait for it)"
}
