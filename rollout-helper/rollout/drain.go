package rollout

import (
	"context"
	"slices"
	"time"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/units/step"
	"app-rollout/units/store"
)

// hurry is how long the drain may still take when the run is to end at once. Most
// requests are much shorter, and a person who stops a service does not notice.
const hurry = time.Second

// drain waits until the old units have nothing in hand.
func (r *rollout) drain(ctx context.Context) error {
	limit := r.limit(r.old)
	if !r.rollback { // who has just shortened the time means these units too
		limit = min(limit, r.limit(r.new))
	}
	return r.drained(ctx, r.surplus(), r.candidate(), limit)
}

func (r *rollout) limit(g *store.Generation) time.Duration {
	if g == nil {
		g = r.new
	}
	return seconds(g.DrainSec)
}

// drained waits until the units have nothing in hand: no connection half-open or
// queued, no request unanswered, and no client that may be about to ask again where it can
// be told to close; or until the limit has passed. Where traffic is not steered it does
// not wait, for the units go on getting new connections. In any case the receipt counts
// what their stop, which follows, does to their connections.
func (r *rollout) drained(ctx context.Context, names, serving []string, limit time.Duration) error {
	if len(names) == 0 {
		return nil
	}
	began, deadline := time.Now(), time.Now().Add(limit)
	var first, last *sockets.Work
	defer func() { r.count(first, last) }()
	for {
		if ctx.Err() != nil && deadline.After(time.Now().Add(hurry)) {
			deadline = time.Now().Add(hurry)
		}
		work, err := r.work(context.WithoutCancel(ctx), names, serving)
		if err == nil {
			last = &work
		}
		if r.receipt.Traffic != Steered {
			first = last
			return nil
		}
		if err != nil {
			// It is not known what they have in hand: they get the time for it.
			if time.Now().After(deadline) {
				return err
			}
			wait(context.WithoutCancel(ctx), drainTick)
			continue
		}
		n := r.inHand(work)
		if first == nil {
			first = last
			if n > 0 {
				r.say(Info, step.Drain, "waiting for %d connection(s) of %s, for %.0f s at most", n, list(names), limit.Seconds())
			}
		}
		if n == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			r.late(work, names, time.Since(began))
			return nil
		}
		wait(context.WithoutCancel(ctx), drainTick)
	}
}

// inHand is how many connections the units are not stopped for yet: where clients can be
// told to close, also those that may be about to ask again, because they will be told.
func (r *rollout) inHand(work sockets.Work) int {
	if r.tells() {
		return work.InHand() + work.Recent
	}
	return work.InHand()
}

// late says what is left when the drain time has passed.
func (r *rollout) late(work sockets.Work, names []string, after time.Duration) {
	if owed := work.InHand(); owed > 0 {
		r.say(Warning, step.Drain, "%d connection(s) of %s still wait for an answer after %.0f s", owed, list(names), after.Seconds())
		return
	}
	r.say(Info, step.Drain, "clients still ask again on %d connection(s) of %s after %.0f s, though they were to be told to close", work.Recent, list(names), after.Seconds())
}

// work counts what the named units still have, and keeps new connections with those
// that serve.
func (r *rollout) work(ctx context.Context, names, serving []string) (sockets.Work, error) {
	l, err := r.glance(ctx, slices.Concat(names, serving)...)
	if err != nil {
		return sockets.Work{}, err
	}
	if err := r.steer(l.view, l.of(serving), nil); err != nil {
		return sockets.Work{}, err
	}
	us := l.of(names)
	if err := r.noteListeners(l.view, us); err != nil {
		return sockets.Work{}, err
	}
	if r.tcp {
		if err := r.tell(us); err != nil {
			return sockets.Work{}, err
		}
	}
	return r.Traffic.Pending(r.app, l.view, us)
}

// observeTick is how often the connections of the instances that are to go are looked at
// before the drain.
const observeTick = 500 * time.Millisecond

// observe looks at the connections of the units that are to go, between the shift and
// the drain. By that the drain knows on which of those at rest the app sends by itself.
func (r *rollout) observe(l look) {
	if r.receipt.Traffic != Steered || !r.shifted || len(r.surplus()) == 0 || time.Since(r.observed) < observeTick {
		return
	}
	r.observed = time.Now()
	_, _ = r.Traffic.Pending(r.app, l.view, l.of(r.surplus())) // the drain meets an error again
}

// count enters in the receipt what became of the connections of units between the
// first look at them and the last, after which they are told to stop.
func (r *rollout) count(first, last *sockets.Work) {
	if first == nil || last == nil {
		return
	}
	r.receipt.ToldToClose, r.receipt.Untold = r.Traffic.Told(r.app)
	r.parting = last
	r.receipt.Drained -= first.Ended
	r.enter(*last, 1)
}

// enter adds the work of units that stop to the receipt; a sign of -1 takes it off.
func (r *rollout) enter(w sockets.Work, sign int) {
	r.receipt.Drained += sign * w.Ended
	r.receipt.Closed += sign * w.Idle
	r.receipt.Cut += sign * (w.Owed + w.Streams)
	r.receipt.Streams += sign * w.Streams
	if !r.Traffic.Migrates() {
		// Otherwise the kernel moves them to an instance that serves.
		r.receipt.Cut += sign * (w.HalfOpen + w.Queued)
	}
}

// following calls do, which stops units that were drained, and has the receipt count
// what became of each connection in the end: a server that finishes what it has in hand
// after its stop signal cuts nothing.
func (r *rollout) following(do func() error) error {
	if r.parting == nil {
		return do()
	}
	r.Traffic.Follow(r.app)
	err := do()
	if settled, ok := r.Traffic.Settle(r.app); ok {
		r.enter(*r.parting, -1)
		r.enter(settled, 1)
	}
	r.parting = nil
	return err
}
