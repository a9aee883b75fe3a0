package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/systemd"
	"app-rollout/units"
)

// The rungs of traffic, best first.
const (
	Steered  = "steered"  // new connections go where the rollout says
	Migrated = "migrated" // the kernel moves what is queued on a closing listener
	Plain    = "plain"    // neither
)

// rollout is one pass from the generation that serves to a candidate.
type rollout struct {
	*Machine
	app   string
	store units.Store

	old   *units.Generation // nil: nothing is recorded
	new   *units.Generation
	was   []string // the units that serve when it begins
	kept  []string // those of them that the candidate keeps (scaling)
	fresh []string // the units that are started for the candidate

	groups    []sockets.Group   // those that all units of was listen in
	runs      map[string]string // fresh unit → its invocation when it was ready
	record    *units.Record
	counters  sockets.Counters
	began     time.Time
	exchanged bool // the one service of mode 0 may run on the candidate's unit
	shifted   bool // new connections have reached the candidate
	unasked   bool // that nobody can be asked has been said
	rollback  bool // a person asked to go back
	patient   bool // an exit while getting ready is no failure yet: at boot, what an app needs may come up late
}

// run is the rollout, step by step, from frozen to forgotten.
func (r *rollout) run(ctx context.Context) error {
	r.began = time.Now()
	r.record = &units.Record{Started: r.began, Rung: Steered}
	r.new.Rollout = r.record
	r.counters = r.Traffic.Counters()

	err := r.steps(ctx,
		step{"hold", r.hold},
		step{"start", r.start},
		step{"ready", r.ready},
		step{"shift", r.shift},
		step{"watch", r.watch},
		step{"commit", r.commit},
	)
	if err != nil {
		if committed, e := r.committed(); e != nil {
			// Nobody knows which one is to serve: both stay as they are.
			return errors.Join(err, e)
		} else if !committed {
			return r.back(ctx, err)
		}
	}
	return r.forward(ctx,
		step{"drain", r.drain},
		step{"stop", r.stop},
		step{"forget", r.forget},
	)
}

type step struct {
	name string
	do   func(context.Context) error
}

// steps takes one step after the other, as long as all goes well.
func (r *rollout) steps(ctx context.Context, steps ...step) error {
	for _, s := range steps {
		if err := r.step(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// forward takes every step, for what is committed does not go back: a step that
// fails is told, and a cancelled run only hurries. At the end it writes the
// receipt.
func (r *rollout) forward(ctx context.Context, steps ...step) error {
	var wrong []error
	for _, s := range steps {
		wrong = append(wrong, r.step(ctx, s))
	}
	err := errors.Join(wrong...)
	r.receipt("forget", "done")
	if e := r.store.Save(r.new); e != nil {
		r.say(Warning, "forget", "the record of the rollout could not be written: %v", e)
	}
	if err != nil {
		mend := "app-rollout run " + r.app
		if r.rollback {
			mend = "app-rollout run" // which leaves it held
		}
		return fmt.Errorf("generation %d serves, but the one before it is not wholly gone: %w; %s puts it right", r.new.Number, err, mend)
	}
	return nil
}

func (r *rollout) step(ctx context.Context, s step) error {
	began := time.Now()
	err := s.do(ctx)
	r.record.Steps = append(r.record.Steps, units.Step{
		Name:         s.name,
		Milliseconds: float64(time.Since(began).Microseconds()) / 1000,
	})
	return err
}

func (r *rollout) say(level Level, step, format string, args ...any) {
	e := Event{App: r.app, Step: step, Text: fmt.Sprintf(format, args...), Level: level}
	if r.new != nil {
		e.Generation = r.new.Number
	}
	r.Report(e)
}

// again is what a person types to have this done once more.
func (r *rollout) again() string {
	if r.rollback {
		return "app-rollout rollback " + r.app
	}
	return "app-rollout run " + r.app
}

// candidate are the units of the new generation.
func (r *rollout) candidate() []string { return slices.Concat(r.kept, r.fresh) }

// surplus are the units that go when the candidate is committed.
func (r *rollout) surplus() []string { return without(r.was, r.kept) }

// hold keeps new connections with the units that serve now, so that whatever
// the new ones bind, they get none.
func (r *rollout) hold(ctx context.Context) error {
	if len(r.was) == 0 {
		return nil
	}
	serving, err := r.Systemd.Units(ctx, r.was...)
	if err != nil {
		return err
	}
	if r.groups, err = r.shared(serving); err != nil {
		return err
	}
	if err := r.lead(serving, nil); err != nil {
		return err
	}
	if r.record.Rung == Steered && len(r.groups) > 0 {
		r.say(Info, "hold", "%s keep all connections until the new ones are ready", list(r.was))
	}
	return nil
}

// start starts the new instances.
func (r *rollout) start(ctx context.Context) error {
	if len(r.fresh) == 0 {
		return nil
	}
	if err := r.free(); err != nil {
		return err
	}
	if why := r.surge(ctx); why != "" {
		r.say(Warning, "start", "%s", why)
	}
	r.say(Info, "start", "starting %s", list(r.fresh))
	return r.leading(ctx, r.was, func() error {
		ctx, cancel := context.WithDeadline(ctx, r.began.Add(seconds(r.new.ReadySec)))
		defer cancel()
		// The first failure ends the other starts; but all have ended before
		// this returns, so that none comes after the stop that follows.
		var first error
		var once sync.Once
		// However many there are, all have begun in a tenth of the time.
		slot := min(startSlot, seconds(r.new.ReadySec)/10*time.Duration(half())/time.Duration(len(r.fresh)))
		paced(len(r.fresh), half(), slot, func(i int) {
			err := ctx.Err()
			if errors.Is(err, context.DeadlineExceeded) {
				err = &Failure{r.fresh[i], fmt.Sprintf("was not started within %d s", r.new.ReadySec)}
			}
			if err == nil {
				err = r.startOne(ctx, r.fresh[i])
			}
			if err == nil {
				err = r.boots(ctx, r.fresh[i], slot-tick)
			}
			if err != nil {
				once.Do(func() { first = err; cancel() })
			}
		})
		return first
	})
}

func (r *rollout) startOne(ctx context.Context, unit string) error {
	result, err := r.Systemd.Start(ctx, unit)
	if errors.Is(err, context.DeadlineExceeded) {
		return &Failure{unit, fmt.Sprintf("was still starting after %d s", r.new.ReadySec)}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	u, e := r.unit(ctx, unit)
	if e != nil {
		return e
	}
	return started(result, err, u)
}

// boots waits until an instance listens, where others serve: until then its
// program takes a CPU. What one lacks that does not listen, ready tells; one that
// ends is an error.
func (r *rollout) boots(ctx context.Context, unit string, limit time.Duration) error {
	if len(r.was) == 0 || !r.askable() {
		return nil
	}
	var us []systemd.Unit
	for end := time.Now().Add(limit); ctx.Err() == nil && time.Now().Before(end); wait(ctx, bootTick) {
		var err error
		if us, err = r.Systemd.Again(ctx, us, unit); err != nil || len(us) == 0 {
			return err
		}
		if err := started("done", nil, us[0]); err != nil {
			return err
		}
		listeners, err := r.Traffic.Listeners()
		if err != nil {
			return err
		}
		if lack, err := r.listens(us[0], listeners); err != nil || lack == "" {
			return err
		}
	}
	return nil
}

// shift gives all new connections to the candidate, at once.
func (r *rollout) shift(ctx context.Context) error {
	units, err := r.Systemd.Units(ctx, r.candidate()...)
	if err != nil {
		return err
	}
	if err := r.mark(); err != nil {
		return err
	}
	r.shifted = true
	if err := r.lead(units, nil); err != nil {
		return err
	}
	if r.record.Rung == Steered && len(r.was) > 0 {
		r.say(Info, "shift", "all new connections go to %s", list(r.candidate()))
	}
	return nil
}

// mark writes down that the shift begins: what the program that steers does
// should this run be killed, and so whether the new units have anything in hand.
func (r *rollout) mark() error {
	if len(r.was) == 0 {
		return nil
	}
	i, err := r.Layout.Instances(r.app)
	if err != nil {
		return err
	}
	i.Shifted = r.new.Number
	return r.Layout.SaveInstances(r.app, i)
}

// commit makes the candidate the current generation. The old units get files
// of their own first, so that a daemon-reload does not make them new.
func (r *rollout) commit(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if r.old != nil {
		if err := r.pin(r.old.Number, r.surplus()); err != nil {
			return err
		}
	}
	r.record.Result = "ready"
	if err := r.store.Commit(r.new); err != nil {
		return err
	}
	r.say(Info, "commit", "generation %d is the current one", r.new.Number)
	return nil
}

// committed asks the store, since a failed commit may have come to pass.
func (r *rollout) committed() (bool, error) {
	current, err := r.store.Current()
	return current != nil && current.Number == r.new.Number, err
}

// drain waits until the old units have nothing in hand.
func (r *rollout) drain(ctx context.Context) error {
	return r.drained(ctx, r.surplus(), r.candidate(), r.limit(r.old))
}

func (r *rollout) limit(g *units.Generation) time.Duration {
	if g == nil {
		g = r.new
	}
	return seconds(g.DrainSec)
}

// stop stops the old units.
func (r *rollout) stop(ctx context.Context) error {
	surplus := r.surplus()
	if len(surplus) == 0 {
		return nil
	}
	r.say(Info, "stop", "stopping %s", list(surplus))
	return r.leading(ctx, r.candidate(), func() error { return r.end(ctx, surplus, r.stopTime()) })
}

// stopTime is how long the slower of both generations may take to stop.
func (r *rollout) stopTime() time.Duration {
	s := r.new.TimeoutStopSec
	if r.old != nil {
		s = max(s, r.old.TimeoutStopSec)
	}
	return seconds(s) + stopGrace
}

// forget removes all that only the rollout needed.
func (r *rollout) forget(ctx context.Context) error {
	return r.tidy(ctx, r.new, r.candidate())
}

// receipt completes the record by what the kernel counted and how long it all
// took, and tells it.
func (r *rollout) receipt(step, end string) {
	grown := r.Traffic.Counters().Since(r.counters)
	r.record.Migrated, r.record.MigrateFailed = grown.MigrateSuccess, grown.MigrateFailure
	r.record.ListenDrops, r.record.ListenOverflow = grown.ListenDrops, grown.ListenOverflows
	r.record.Seconds = time.Since(r.began).Seconds()
	r.say(Info, step, "%s in %.1f s, traffic %s, %s: %s", end, r.record.Seconds, r.record.Rung, r.record.Connections(), r.record.Took())
}

// back undoes a rollout that was not committed: the old generation gets all
// new connections again, then the candidate goes without a trace but for its
// frozen files, which say what was rejected.
func (r *rollout) back(ctx context.Context, cause error) error {
	// A cancelled context has ended the rollout, not the way back.
	undo := context.WithoutCancel(ctx)
	if stopping, err := r.Systemd.Stopping(undo); err == nil && stopping {
		return cause
	}
	// All that can go wrong on the way back is told, and nothing stops it: the
	// next run's recover takes up what is left.
	var wrong []error
	if len(r.was) > 0 {
		wrong = append(wrong, r.step(undo, step{"back", func(ctx context.Context) error {
			_, err := r.leadTo(ctx, nil, r.was)
			return err
		}}))
	}
	if r.shifted {
		wrong = append(wrong, r.step(ctx, step{"drain", func(ctx context.Context) error {
			return r.drained(ctx, r.fresh, r.was, r.limit(r.new))
		}}))
	}
	wrong = append(wrong, r.step(undo, step{"stop", func(ctx context.Context) error { return r.end(ctx, r.fresh, r.stopTime()) }}))
	r.receipt("back", "undone")
	if r.new.Ready = false; ctx.Err() == nil {
		r.record.Result, r.record.Reason = "failed", cause.Error()
		wrong = append(wrong, r.store.Reject(r.new))
		cause = fmt.Errorf("%w; %s", cause, r.serves())
	} else {
		// Nobody found it bad: it is not kept.
		cause = fmt.Errorf("the rollout was interrupted; %s", r.serves())
	}
	known, err := r.reinstate(undo)
	if wrong = append(wrong, err); known {
		wrong = append(wrong, r.tidy(undo, r.old, r.was))
	}
	if err := errors.Join(wrong...); err != nil {
		r.say(Warning, "back", "%v", err)
	}
	return cause
}

// serves tells what a failed rollout has left.
func (r *rollout) serves() string {
	if len(r.was) == 0 {
		return "nothing serves"
	}
	if r.old == nil {
		return list(r.was) + " still serve"
	}
	return fmt.Sprintf("generation %d still serves", r.old.Number)
}
