package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/units/problem"
	"app-rollout/units/step"
)

// back undoes a rollout that was not committed. First the old generation gets all new
// connections again. Then the candidate is removed, except for its frozen files, which
// record what was rejected.
func (r *rollout) back(ctx context.Context, cause error) error {
	// The way back is taken also when the context is cancelled.
	undo := context.WithoutCancel(ctx)
	if stopping, err := r.Systemd.Stopping(undo); err == nil && stopping {
		return cause
	}
	if !r.tcp {
		if l, err := r.look(undo); err == nil {
			_ = r.checkPaths(l) // it notes what the candidate has taken
		}
	}
	// Errors on the way back are reported, and do not stop it. The next run's recover
	// puts right what is left.
	var wrong []error
	if len(r.was) > 0 {
		wrong = append(wrong, r.take(undo, act{name: step.Back, do: func(ctx context.Context) error {
			return r.steerTo(ctx, r.was)
		}}))
	}
	if ctx.Err() == nil {
		cause = r.crowded(ctx, cause)
	}
	if r.shifted {
		wrong = append(wrong, r.take(ctx, act{name: step.Drain, do: func(ctx context.Context) error {
			return r.drained(ctx, without(r.fresh, r.deaf(ctx, r.fresh)), r.was, allowanceOf(r.new))
		}}))
	}
	wrong = append(wrong, r.take(undo, act{name: step.Stop, do: func(ctx context.Context) error {
		return r.leave(ctx, without(r.fresh, r.was), nil) // in place the service goes back by a restart
	}}))
	r.finish(step.Back, "undone", "")
	// If it was interrupted, the candidate was not found bad, so it is not rejected.
	interrupted := ctx.Err() != nil
	if r.new.Ready = r.restart; !interrupted {
		cause = rights(r.Layout, cause)
		wrong = append(wrong, r.record(cause))
	}
	known, err := r.reinstate(undo)
	if wrong = append(wrong, err); known {
		wrong = append(wrong, r.tidy(undo, r.old, r.was))
	}
	if serves := r.whatServes(undo, interrupted); interrupted {
		what := "rollout"
		if r.restart {
			what = "restart"
		}
		cause = told(fmt.Sprintf("the %s was interrupted; %s", what, serves), "to begin anew: "+r.again())
	} else {
		cause = r.failed(cause, serves)
	}
	if err := errors.Join(wrong...); err != nil {
		r.warn(step.Back, err)
	}
	return cause
}

// record writes down that the candidate failed. It is rejected only if that is its own
// fault, for else the same may become ready the next time. A run for all does it only once,
// though.
func (r *rollout) record(cause error) error {
	p := problem.Of(cause)
	r.receipt.Result, r.receipt.Reason, r.receipt.Remedy = "failed", p.What(), lasting(p.Remedy, r.began, time.Now())
	if !r.restart && r.ownFault(cause) {
		return r.store.Reject(r.new)
	}
	r.noteFailed(r.app, r.new.Digest)
	return r.store.Save(r.new) // a commit that failed may have noted it as ready
}

// ownFault reports whether a failure is the candidate's own. It is not if a file could not
// be written, if systemd did not do what it was asked to do, or if somebody else has the
// port. An app that serves on its port already does not fail for want of it.
func (r *rollout) ownFault(cause error) bool {
	var (
		did     *Failure
		wrong   *RunError
		not     *notStarted
		crowded *crowdedOut
	)
	switch {
	case errors.As(cause, &not):
		return false
	case errors.As(cause, &crowded):
		return !r.inPlace() && slices.ContainsFunc(r.groups, func(g sockets.Group) bool { return int(g.Addr.Port()) == crowded.port })
	}
	return errors.As(cause, &did) || errors.As(cause, &wrong)
}

// failed is what a rollout that went back ends with: what went wrong, what serves now,
// and what to do.
func (r *rollout) failed(cause error, serves string) error {
	var e *RunError
	if !errors.As(cause, &e) {
		e = runError(cause)
		e.Remedy = problem.Join(e.Remedy, "when that is mended: "+r.again())
	}
	e.Text += "; " + serves
	return e
}

// whatServes says what serves after the way back. The one service of mode 0 gets the
// time to come back that it had to start.
func (r *rollout) whatServes(ctx context.Context, interrupted bool) string {
	switch {
	case r.restart && r.bounced:
		return r.serves(ctx, r.old, r.was, anew)
	case r.restart:
		return fmt.Sprintf("%s, and generation %d is not rejected", r.serves(ctx, nil, r.was, still), r.old.Number)
	case !r.exchanged:
		return r.serves(ctx, r.old, r.was, still)
	case interrupted:
		return r.comesBack(ctx, r.old, r.was, hurry)
	}
	return r.comesBack(ctx, r.old, r.was, seconds(r.new.ReadySec))
}
