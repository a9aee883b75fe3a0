package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/units/store"
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
	store store.Store

	old   *store.Generation // nil: nothing is recorded
	new   *store.Generation
	was   []string // the units that serve when it begins
	kept  []string // those of them that the candidate keeps (scaling)
	fresh []string // the units that are started for the candidate

	groups    []sockets.Group   // those that all units of was listen in
	runs      map[string]string // fresh unit → its invocation when it was ready
	record    *store.Receipt
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
	r.record = &store.Receipt{Started: r.began, Rung: Steered}
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
	r.record.Steps = append(r.record.Steps, store.Step{
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

// receipt completes the record by what the kernel counted and how long it all
// took, and tells it.
func (r *rollout) receipt(step, end string) {
	grown := r.Traffic.Counters().Since(r.counters)
	r.record.Migrated, r.record.MigrateFailed = grown.MigrateSuccess, grown.MigrateFailure
	r.record.ListenDrops, r.record.ListenOverflow = grown.ListenDrops, grown.ListenOverflows
	r.record.Seconds = time.Since(r.began).Seconds()
	r.say(Info, step, "%s in %.1f s, traffic %s, %s: %s", end, r.record.Seconds, r.record.Rung, r.record.Connections(), r.record.Took())
}
