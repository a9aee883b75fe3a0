package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/systemd"
	"app-rollout/units/problem"
	"app-rollout/units/step"
	"app-rollout/units/store"
)

// How new connections are directed during a rollout, the best first.
const (
	Steered  = "steered"  // new connections go where the rollout says
	Migrated = "migrated" // the kernel moves what is queued on a closing listener
	Plain    = "plain"    // neither
)

// rollout is one rollout, from the generation that serves to a candidate.
type rollout struct {
	*Machine
	app   string
	store store.Store

	old   *store.Generation // nil: nothing is recorded
	new   *store.Generation
	was   []string // the units that serve when it begins; in place the service is fresh too
	kept  []string // those of them that the candidate keeps (scaling)
	fresh []string // the units that are started for the candidate

	groups    []sockets.Group         // those that all units of was listen in
	tcp       bool                    // a unit of the app was seen to listen on a TCP port, or it cannot be seen whether one does
	taken     []string                // the Unix sockets that a unit has taken from another
	parting   *sockets.Work           // what the units that are about to stop, or do so, still have, as the receipt counts it
	parted    sockets.Work            // the part of it that those had which the drain has told to stop
	stopping  *stops                  // of the units that are drained; nil before the first is told to stop
	observed  time.Time               // when the connections of the surplus were looked at last
	seen      map[string]systemd.Unit // the app's units at the last look
	runs      map[string]string       // fresh unit → its invocation when it was ready
	holders   map[int]string          // port → the app that it belongs to, as far as that was asked for
	stalls    stalls                  // what was seen of fresh units on which connections wait
	before    []store.Step            // the steps that were taken before the rollout's own time began
	receipt   *store.Receipt
	counters  sockets.Counters
	began     time.Time
	exchanged bool            // the one service of mode 0 has the candidate's unit
	bounced   bool            // and may run on it: it was restarted
	shifted   bool            // new connections have reached the candidate
	untold    bool            // kept-alive clients cannot be told to close
	partly    string          // why not all of them can, as it was said last
	unasked   bool            // it has been reported that instances cannot be asked
	rollback  bool            // a person asked to go back
	restart   bool            // the candidate is the generation that serves, with new instances
	turn      <-chan struct{} // closed when the app's turn in a run for several is over
	settled   func()          // ends the turn if the new instances are ready; nil if there is none
	patient   bool            // an exit before the instance is ready is no failure: at boot, what an app needs may come up late
}

// act is one step of a rollout and what does it.
type act struct {
	name   string
	do     func(context.Context) error
	beside bool // only where the new instances start beside the old ones
}

// acts are the steps of a rollout in their order. If one of the first fails, the
// rollout goes back; the last ones follow the commit, after which nothing goes
// back.
func (r *rollout) acts() (first, last []act) {
	first = []act{
		{step.Hold, r.hold, true},
		{step.Start, r.start, false},
		{step.Ready, r.ready, false},
		{step.Shift, r.shift, true},
		{step.Watch, r.watch, false},
		{step.Commit, r.commit, false},
	}
	last = []act{
		{step.Drain, r.drain, true},
		{step.Stop, r.stop, true},
		{step.Forget, r.forget, false},
	}
	if r.inPlace() {
		beside := func(a act) bool { return a.beside }
		first, last = slices.DeleteFunc(first, beside), slices.DeleteFunc(last, beside)
	}
	return first, last
}

// run is the rollout of a frozen generation whose instances have their numbers.
func (r *rollout) run(ctx context.Context) error {
	give, err := r.await(ctx)
	r.open()
	if err != nil {
		return r.back(ctx, err)
	}
	defer r.attend(ctx, give)()
	defer r.batch.work()()

	first, last := r.acts()
	for _, a := range first {
		err := r.take(ctx, a)
		if err == nil {
			continue
		}
		committed, e := r.committed()
		if e != nil {
			// It is not known which generation is to serve, so both stay.
			return errors.Join(err, e)
		}
		if !committed {
			return r.back(ctx, err)
		}
		break
	}
	return r.forward(ctx, last)
}

// await waits until it is the app's turn. A service that is restarted in place gets its
// unit before that, because all of a run share one daemon-reload. If it crashes meanwhile,
// systemd starts it from that unit before its turn: see reinstate.
func (r *rollout) await(ctx context.Context) (give func(), err error) {
	switch {
	case r.inPlace() && r.restart:
		if err := r.rewrite(ctx); err != nil {
			return nil, err
		}
	case r.inPlace():
		r.exchanged = true
		if err := r.writeUnits(r.new.Number, r.fresh); err != nil {
			return nil, err
		}
		if err := r.reread(ctx, r.app); err != nil {
			return nil, err
		}
	}
	return r.batch.turn(ctx, r.app, r.cpus())
}

// open begins the receipt, and the time that the app has.
func (r *rollout) open() {
	r.receipt = store.NewReceipt(Steered)
	r.receipt.Steps = slices.Clone(r.before)
	r.began = r.receipt.Started
	if r.inPlace() {
		r.receipt.Traffic, r.receipt.TrafficReason = Plain, "one service is restarted in place"
	}
	r.keep()
	r.counters = r.Traffic.Counters()
}

// forward takes all of the last steps, because what is committed does not go back. It
// reports a step that fails, and goes on. A cancelled run only hurries. At the end the
// receipt is written.
func (r *rollout) forward(ctx context.Context, last []act) error {
	var wrong []error
	for _, a := range last {
		wrong = append(wrong, r.take(ctx, a))
	}
	err := errors.Join(wrong...)
	r.tellWrapped(ctx)
	result := ""
	if err == nil {
		result = r.receipt.Result
	}
	r.finish(step.Forget, "done", result)
	if e := r.store.Save(r.new); e != nil {
		r.say(Warning, step.Forget, "the receipt of the rollout could not be written: %v", e)
	}
	if err != nil {
		mend := "app-rollout run " + r.app
		switch {
		case r.rollback:
			mend = "app-rollout run" // to name the app would end the hold
		case r.restart:
			mend = r.again()
		}
		e := runError(err)
		gone := "the one before it is"
		if r.restart {
			gone = "its old instances are"
		}
		e.Text = fmt.Sprintf("%s, but %s not wholly gone: %s", r.serves(context.WithoutCancel(ctx), r.new, r.candidate(), simply), gone, e.What())
		e.Path, e.Line = "", 0
		e.Remedy = problem.Join(e.Remedy, mend+" puts it right")
		return e
	}
	return nil
}

// take takes one step and writes down how long it took.
func (r *rollout) take(ctx context.Context, a act) error {
	began := time.Now()
	err := a.do(ctx)
	r.receipt.Steps = append(r.receipt.Steps, taken(a.name, began))
	return err
}

// taken is the record of a step that has just ended.
func taken(name string, began time.Time) store.Step {
	return store.Step{Name: name, Milliseconds: float64(time.Since(began).Microseconds()) / 1000}
}

func (r *rollout) say(level Level, at, format string, args ...any) {
	r.Report(r.event(level, at, format, args...))
}

func (r *rollout) event(level Level, at, format string, args ...any) Event {
	e := Event{App: r.app, Step: at, Text: fmt.Sprintf(format, args...), Level: level}
	if r.new != nil {
		e.Generation = r.new.Number
	}
	return e
}

// warn reports an error that does not end the rollout.
func (r *rollout) warn(at string, err error) {
	e := warning(r.app, at, err)
	e.Generation = r.new.Number
	r.Report(e)
}

// again is what a person types to have this done once more.
func (r *rollout) again() string {
	switch {
	case r.rollback:
		return "app-rollout rollback " + r.app
	case r.restart:
		return "app-rollout restart " + r.app
	}
	return rerun(r.app, r.old)
}

// candidate are the units of the new generation.
func (r *rollout) candidate() []string { return slices.Concat(r.kept, r.fresh) }

// surplus are the units that go when the candidate is committed.
func (r *rollout) surplus() []string { return without(r.was, r.candidate()) }

// finish completes the receipt by what the kernel counted and how long all took, and
// reports it, with the result of the run if this is it.
func (r *rollout) finish(at, end, result string) {
	grown := r.Traffic.Counters().Since(r.counters)
	r.receipt.Migrated, r.receipt.MigrateFailed = grown.MigrateSuccess, grown.MigrateFailure
	r.receipt.ListenDrops, r.receipt.ListenOverflow = grown.ListenDrops, grown.ListenOverflows
	r.receipt.Seconds = time.Since(r.began).Seconds()
	r.silence()
	e := r.event(Info, at, "%s in %.1f s%s: %s", end, r.receipt.Seconds, r.receipt.Told(), r.receipt.Took())
	e.Result = result
	r.Report(e)
}

// silence keeps the receipt of an app without a TCP listener from speaking of traffic
// and connections.
func (r *rollout) silence() {
	if !r.tcp {
		r.receipt.Traffic, r.receipt.TrafficReason, r.receipt.Counts = "", "", nil
	}
}
