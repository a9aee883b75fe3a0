package follow

import (
	"cmp"
	"context"
	"errors"
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
	interrupts := make(map[string]chan struct{})

	records := make(chan journal.Record)
	type end struct {
		failed bool
		err    error
	}
	ends := make(chan end)
	for _, service := range services {
		interrupted := make(chan struct{})
		interrupts[service] = interrupted
		go func() {
			failed, err := follow(ctx, m, service, records, interrupted)
			ends <- end{failed, err}
		}()
	}
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	stopping := false
	for left := len(services); left > 0; {
		select {
		case r := <-records:
			v.record(r)
		case e := <-ends:
			left--
			failed = failed || e.failed
			err = cmp.Or(err, e.err)
		case <-ticker.C:
			v.draw(ctx)
		case <-signals:
			if stopping {
				v.clear()
				return false, fmt.Errorf("no longer followed; it goes on: journalctl -f -u %s", services[0])
			}
			stopping = true
			back := false
			for service, interrupted := range interrupts {
				if !v.committed(service) {
					back = true
					close(interrupted)
				}
			}
			if back {
				v.note("interrupted: what is not committed goes back, what is committed is finished (Ctrl-C again: do not wait for it)")
			} else {
				v.note("interrupted, but it is committed already, and is finished (Ctrl-C again: do not wait for it)")
			}
		}
	}
	v.summary()
	return failed, err
}

// follow starts a service and passes on what it logs until the service has ended. It
// first waits for a run that is under way, so that the run that it follows began after
// the person asked for it.
func follow(ctx context.Context, m rollout.Systemd, service string, records chan<- journal.Record, interrupted <-chan struct{}) (failed bool, err error) {
	if idle, err := waitIdle(ctx, m, service, interrupted); err != nil || !idle {
		return false, err
	}
	us, err := m.Units(ctx, service)
	if err != nil {
		return false, err
	}
	if len(us) > 0 && us[0].Load == "masked" {
		return false, fmt.Errorf("%s is masked; systemctl unmask %s", service, service)
	}
	log, err := journal.ReadFromNow(service, Recovery(service))
	if err != nil {
		return false, fmt.Errorf("%w; to roll out without following: systemctl start %s", err, service)
	}
	defer log.Close()
	started, stopped := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := m.Start(ctx, service)
		started <- cmp.Or(err, recovered(ctx, m, service))
	}()
	passed, going := 0, true
	pass := func(r journal.Record) error {
		passed++
		select {
		case records <- r:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for going {
		select {
		case r, ok := <-log.Records:
			if !ok {
				return false, fmt.Errorf("journalctl has ended; see: journalctl -u %s", service)
			}
			if err := pass(r); err != nil {
				return false, err
			}
		case <-interrupted:
			// From now on the end of the stop counts.
			interrupted, started = nil, nil
			go func() {
				_, err := m.Stop(ctx, service)
				stopped <- cmp.Or(err, recovered(ctx, m, service))
			}()
		case err := <-firstEnd(started, stopped):
			if err != nil {
				return false, fmt.Errorf("%s: %w", service, err)
			}
			going = false
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	// The journal tells followers late of new records.
	all, err := log.End()
	if err != nil {
		return false, err
	}
	for _, r := range all[min(passed, len(all)):] {
		if err := pass(r); err != nil {
			return false, err
		}
	}
	if us, err = m.Units(ctx, service); err != nil {
		return false, err
	}
	return len(us) > 0 && us[0].Active == "failed", nil
}

// firstEnd is the channel to wait on: that of the stop, if there is one.
func firstEnd(started, stopped <-chan error) <-chan error {
	if started != nil {
		return started
	}
	return stopped
}

// Recovery is the unit that systemd starts when a service has failed (OnFailure=).
func Recovery(service string) string {
	_, app, one := strings.Cut(service, "@")
	if one {
		return "app-rollout-recover@" + app
	}
	return "app-rollout-recover.service"
}

// recovered waits until the recovery of a failed service has ended.
func recovered(ctx context.Context, m rollout.Systemd, service string) error {
	_, err := waitIdle(ctx, m, Recovery(service), nil)
	return err
}

// waitIdle waits until no run of the service is under way. It is false if it was
// interrupted; nothing was started then.
func waitIdle(ctx context.Context, m rollout.Systemd, service string, interrupted <-chan struct{}) (bool, error) {
	for {
		us, err := m.Units(ctx, service)
		if err != nil {
			return false, err
		}
		if len(us) == 0 || us[0].Job == 0 && us[0].Active != "activating" && us[0].Active != "deactivating" {
			return true, nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-interrupted:
			return false, errors.New("interrupted before it began: another run is under way")
		case <-time.After(tick):
		}
	}
}
