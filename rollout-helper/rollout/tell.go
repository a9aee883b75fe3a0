package rollout

import (
	"errors"

	"app-rollout/rollout-helper/closing"
	"app-rollout/rollout-helper/steering"
	"app-rollout/rollout-helper/systemd"
	"app-rollout/units/step"
)

// tells reports whether kept-alive clients of draining units are told to close: the
// settings of both generations want it, and this machine can do it.
func (r *rollout) tells() bool {
	leave := r.new.LeaveKeepalive || r.old != nil && r.old.LeaveKeepalive
	return !leave && !r.untold && r.receipt.Traffic == Steered
}

// prepareTelling begins what telling needs, in the background, if there will be units
// to drain. The way back, which may have some without that, begins it by itself.
func (r *rollout) prepareTelling() {
	if r.tells() && len(r.groups) > 0 && len(r.surplus()) > 0 {
		r.Traffic.PrepareTell(r.app)
	}
}

// tell has the units' answers tell their kept-alive clients to close. A rollout that
// cannot do that, or not behind all network interfaces, does not fail: it drains as long as
// the clients go on asking. It says so, once.
func (r *rollout) tell(us []systemd.Unit) error {
	if !r.tells() {
		return nil
	}
	err := r.Traffic.Tell(r.app, us)
	var (
		not     *steering.Unavailable
		partial *closing.Partial
	)
	switch {
	case errors.As(err, &not):
		r.untold = true
		r.say(Warning, step.Drain, "kept-alive clients are not told to close: %s", not.Reason)
	case errors.As(err, &partial):
		r.sayPartly("some kept-alive clients are not told to close: " + partial.Error())
	case errors.Is(err, closing.ErrLate): // they will be told as soon as that can be done
		r.sayPartly("kept-alive clients are not told to close yet: " + err.Error())
	default:
		return err
	}
	return nil
}

// sayPartly says what keeps clients from being told for now, or some of them, once.
func (r *rollout) sayPartly(why string) {
	if why != r.partly {
		r.partly = why
		r.say(Warning, step.Drain, "%s", why)
	}
}
