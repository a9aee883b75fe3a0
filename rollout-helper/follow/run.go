package follow

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"app-rollout/rollout-helper/journal"
	"app-rollout/rollout-helper/rollout"
	"app-rollout/rollout-helper/systemd"
	"app-rollout/units"
	"app-rollout/units/problem"
)

// run is one service that is started and followed.
type run struct {
	systemd     rollout.Systemd
	layout      units.Layout
	service     string
	records     chan<- journal.Record // takes what the service logs
	interrupted chan struct{}         // closed: the service is to stop
}

// end is how a run ended: the service failed, or it could not be followed.
type end struct {
	service string
	failed  string // how, in systemd's word; "" if it did not
	err     error
}

// follow starts the service and passes on what it logs until the service has
// ended. It first waits for a run that is under way, so that the run that it
// follows began after the person asked for it.
func (r *run) follow(ctx context.Context) end {
	if err := r.idle(ctx, r.service, r.interrupted); err != nil {
		return end{err: err}
	}
	us, err := r.systemd.Units(ctx, r.service)
	if err != nil {
		return end{err: err}
	}
	if len(us) > 0 && us[0].Load == "masked" {
		return end{err: r.masked()}
	}
	log, err := journal.ReadFromNow(r.service, Recovery(r.service))
	if err != nil {
		p := *problem.Of(err)
		p.Remedy = problem.Join(p.Remedy, "to roll out without following: systemctl start "+r.service)
		return end{err: &p}
	}
	defer log.Close()
	passed, err := r.start(ctx, log)
	if err != nil {
		return end{err: err}
	}
	// The journal tells followers late of new records.
	all, err := log.End()
	if err != nil {
		return end{err: err}
	}
	for _, record := range all[min(passed, len(all)):] {
		if err := r.pass(ctx, record); err != nil {
			return end{err: err}
		}
	}
	e := end{service: r.service}
	if us, e.err = r.systemd.Units(ctx, r.service); len(us) > 0 && us[0].Active == "failed" {
		e.failed = cmp.Or(us[0].Result, "unknown")
	}
	return e
}

// start starts the service, stops it if it is interrupted, and passes on what
// it logs until it has ended. It returns how many records it passed on.
func (r *run) start(ctx context.Context, log *journal.Reader) (passed int, err error) {
	ended, interrupted := r.job(ctx, r.systemd.Start), r.interrupted
	for {
		select {
		case record, ok := <-log.Records:
			if !ok {
				return passed, &problem.Problem{Text: "journalctl has ended", Remedy: "see: journalctl -u " + r.service}
			}
			passed++
			if err := r.pass(ctx, record); err != nil {
				return passed, err
			}
		case <-interrupted:
			// From now on the end of the stop counts.
			ended, interrupted = r.job(ctx, r.systemd.Stop), nil
		case err := <-ended:
			if systemd.Masked(err) {
				return passed, r.masked()
			}
			if err != nil {
				return passed, fmt.Errorf("%s: %w", r.service, err)
			}
			return passed, nil
		case <-ctx.Done():
			return passed, ctx.Err()
		}
	}
}

// masked is the error about a service that cannot be started. If no file is found that
// masks it, there is only systemd's word for it.
func (r *run) masked() error {
	if p := r.layout.MaskedService(r.service); p != nil {
		return p
	}
	return &problem.Problem{Text: r.service + " is masked", Remedy: "systemctl unmask " + r.service}
}

// job starts or stops the service. It answers when that has ended, and the
// recovery of a failed service too.
func (r *run) job(ctx context.Context, do func(context.Context, string) (string, error)) <-chan error {
	ended := make(chan error, 1)
	go func() {
		_, err := do(ctx, r.service)
		ended <- cmp.Or(err, r.idle(ctx, Recovery(r.service), nil))
	}()
	return ended
}

// pass passes on one record.
func (r *run) pass(ctx context.Context, record journal.Record) error {
	select {
	case r.records <- record:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Recovery is the unit that systemd starts when a service has failed (OnFailure=).
func Recovery(service string) string {
	_, app, one := strings.Cut(service, "@")
	if one {
		return "app-rollout-recover@" + app
	}
	return "app-rollout-recover.service"
}

// idle waits until no run of a service is under way. An interruption is an
// error.
func (r *run) idle(ctx context.Context, service string, interrupted <-chan struct{}) error {
	for {
		us, err := r.systemd.Units(ctx, service)
		if err != nil {
			return err
		}
		if len(us) == 0 || us[0].Job == 0 && us[0].Active != "activating" && us[0].Active != "deactivating" {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-interrupted:
			return errors.New("interrupted before it began: another run is under way")
		case <-time.After(tick):
		}
	}
}
