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
	a := allowanceOf(r.new)
	switch {
	case r.old == nil:
	case r.rollback:
		a = allowanceOf(r.old)
	default: // who has just changed that means these units too, but they keep no longer than they were promised
		a.limit = min(a.limit, seconds(r.old.DrainSec))
	}
	return r.drained(ctx, r.surplus(), r.candidate(), a)
}

// An allowance is how long units are waited for, and for what.
type allowance struct {
	limit  time.Duration
	closed bool // until every connection is gone, and not only until all is answered
}

func allowanceOf(g *store.Generation) allowance {
	return allowance{seconds(g.DrainSec), g.DrainClosed}
}

// drained waits until the units have nothing in hand: no connection half-open or
// queued, no request unanswered, and no client that may be about to ask again where it can
// be told to close; or, if that is asked for, until they have no connection at all; or
// until the limit has passed. In the last tenth of it, it begins to stop them. Where
// traffic is not steered it does not wait, for the units go on getting new connections. In
// any case the receipt counts what their stop, which follows, does to their connections.
func (r *rollout) drained(ctx context.Context, names, serving []string, a allowance) error {
	if len(names) == 0 {
		return nil
	}
	d := &drain{rollout: r, allowance: a, names: names, serving: serving, began: time.Now(), deadline: time.Now().Add(a.limit)}
	defer func() { r.count(d.first, d.last) }()
	for {
		if ctx.Err() != nil && d.deadline.After(time.Now().Add(hurry)) {
			d.deadline = time.Now().Add(hurry)
		}
		if over, err := d.step(context.WithoutCancel(ctx)); over || err != nil {
			return err
		}
		wait(context.WithoutCancel(ctx), drainTick)
	}
}

// A drain waits for units.
type drain struct {
	*rollout
	allowance
	names, serving  []string // the units, as far as they were not told to stop; those that serve
	began, deadline time.Time
	first, last     *sockets.Work
	parts           int // so many are told to stop one after the other; 0 before that begins
}

// step takes one look. It reports whether the drain is over.
func (d *drain) step(ctx context.Context) (over bool, err error) {
	work, each, err := d.work(ctx)
	if err == nil {
		d.last = &work
	}
	if d.receipt.Traffic != Steered {
		d.first = d.last
		return true, nil
	}
	late := !time.Now().Before(d.deadline)
	if err != nil {
		// It is not known what they have in hand: they get the time for it.
		if late {
			return true, err
		}
		return false, nil
	}
	n := d.holds(work)
	if d.first == nil {
		d.first = d.last
		if n > 0 {
			d.sayWaits(n)
		}
	}
	switch {
	case n == 0:
		return true, nil
	case late:
		d.late(work, time.Since(d.began))
		return true, nil
	}
	if work.HalfOpen == 0 { // nobody knows whose they are
		d.part(ctx, each)
	}
	return false, nil
}

func (d *drain) sayWaits(n int) {
	until := ""
	if d.closed {
		until = " to be closed"
	}
	d.say(Info, step.Drain, "waiting for %d connection(s) of %s%s, for %.0f s at most", n, list(d.names), until, d.limit.Seconds())
}

// holds is how many connections hold the drain up.
func (d *drain) holds(work sockets.Work) int {
	if d.closed {
		return work.Open()
	}
	return d.inHand(work)
}

// inHand is how many connections units are not told to stop for yet: where clients can be
// told to close, also those that may be about to ask again, because they will be told.
func (r *rollout) inHand(work sockets.Work) int {
	if r.tells() {
		return work.InHand() + work.Recent
	}
	return work.InHand()
}

// late says what is left when the drain time has passed.
func (d *drain) late(work sockets.Work, after time.Duration) {
	names, s := list(d.names), after.Seconds()
	switch owed := work.InHand(); {
	case owed > 0:
		d.say(Warning, step.Drain, "%d connection(s) of %s still wait for an answer after %.0f s", owed, names, s)
	case d.closed:
		d.say(Info, step.Drain, "%d connection(s) of %s are still open after %.0f s", work.Open(), names, s)
	default:
		d.say(Info, step.Drain, "clients still ask again on %d connection(s) of %s after %.0f s, though they were to be told to close", work.Recent, names, s)
	}
}

// work counts what the units still have, all together and each by itself, and keeps new
// connections with those that serve.
func (d *drain) work(ctx context.Context) (all sockets.Work, each map[string]sockets.Work, err error) {
	l, err := d.glance(ctx, slices.Concat(d.names, d.serving)...)
	if err != nil {
		return all, nil, err
	}
	if err := d.steer(l.view, l.of(d.serving), nil); err != nil {
		return all, nil, err
	}
	us := l.of(d.names)
	if err := d.noteListeners(l.view, us); err != nil {
		return all, nil, err
	}
	if d.tcp {
		if err := d.tell(us); err != nil {
			return all, nil, err
		}
	}
	all, those, err := d.Traffic.Pending(d.app, l.view, us)
	if err != nil {
		return all, nil, err
	}
	each = make(map[string]sockets.Work)
	for i, u := range us {
		each[u.Name] = those[i]
	}
	return all, each, nil
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
	_, _, _ = r.Traffic.Pending(r.app, l.view, l.of(r.surplus())) // the drain meets an error again
}

// count enters in the receipt what became of the connections of units between the
// first look at them and the last, after which they are told to stop.
func (r *rollout) count(first, last *sockets.Work) {
	if first == nil || last == nil {
		return
	}
	r.receipt.ToldToClose, r.receipt.Untold = r.Traffic.Told(r.app)
	all := last.Plus(r.parted)
	r.parting = &all
	r.receipt.Drained -= first.Ended
	r.enter(all, 1)
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
	r.parting, r.parted = nil, sockets.Work{}
	return err
}
