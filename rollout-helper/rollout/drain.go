package rollout

import (
	"context"
	"slices"
	"time"

	"app-rollout/units/step"
	"app-rollout/units/store"
)

// hurry is how long the drain may still take when the run is to end at once. Most
// requests are much shorter, and a person who stops a service does not notice.
const hurry = time.Second

// drain waits until the old units have nothing in hand.
func (r *rollout) drain(ctx context.Context) error {
	return r.drained(ctx, r.surplus(), r.candidate(), r.limit(r.old))
}

func (r *rollout) limit(g *store.Generation) time.Duration {
	if g == nil {
		g = r.new
	}
	return seconds(g.DrainSec)
}

// drained waits until the units have nothing in hand: no connection half-open or
// queued, and no request unanswered; or until the limit has passed. Where traffic is
// not steered it does not wait, for the units go on getting new connections.
func (r *rollout) drained(ctx context.Context, names, serving []string, limit time.Duration) error {
	if len(names) == 0 || r.receipt.Traffic != Steered {
		return nil
	}
	began, deadline := time.Now(), time.Now().Add(limit)
	first, last := -1, 0
	defer func() {
		r.receipt.Cut += last
		r.receipt.Drained += max(first-last, 0)
	}()
	for {
		if ctx.Err() != nil && deadline.After(time.Now().Add(hurry)) {
			deadline = time.Now().Add(hurry)
		}
		n, err := r.inHand(context.WithoutCancel(ctx), names, serving)
		if r.receipt.Traffic != Steered {
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
		if last = n; first < 0 {
			first = last
			if last > 0 {
				r.say(Info, step.Drain, "waiting for %d connection(s) of %s, for %.0f s at most", last, list(names), limit.Seconds())
			}
		}
		if last == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			r.say(Warning, step.Drain, "%d connection(s) of %s are cut after %.0f s", last, list(names), time.Since(began).Seconds())
			return nil
		}
		wait(context.WithoutCancel(ctx), drainTick)
	}
}

// inHand counts what the named units still have in hand, and keeps new connections
// with those that serve.
func (r *rollout) inHand(ctx context.Context, names, serving []string) (int, error) {
	l, err := r.glance(ctx, slices.Concat(names, serving)...)
	if err != nil {
		return 0, err
	}
	if err := r.steer(l.view, l.of(serving), nil); err != nil {
		return 0, err
	}
	return r.Traffic.Pending(r.app, l.view, l.of(names))
}
