package rollout

import (
	"context"
	"errors"
	"fmt"
	"time"

	"app-rollout/units"
)

// restart is the rollout of mode 0: one service under one name, so the old one
// stops before the new one starts. Nothing is committed before the new one is
// ready, and the old one comes back if it is not.
func (r *rollout) restart(ctx context.Context) error {
	r.began = time.Now()
	r.record = &units.Record{Started: r.began, Rung: Plain, RungWhy: "one service is restarted in place"}
	r.new.Rollout = r.record
	r.counters = r.Traffic.Counters()
	r.say(Info, "freeze", "generation %d is frozen", r.new.Number)

	// The old one does not run beside the new one: nothing is compared with it.
	was := r.was
	r.was, r.fresh = nil, was
	err := r.steps(ctx,
		step{"start", r.exchange},
		step{"ready", r.ready},
		step{"watch", r.watch},
		step{"commit", r.commit},
	)
	if err == nil || r.committed() {
		return r.steps(ctx, step{"forget", r.forget})
	}
	// On the way back the file goes, so that the old unit is seen again, and
	// the service is started anew, not stopped.
	r.was, r.fresh = was, nil
	err = r.back(ctx, err)
	return errors.Join(err, r.again(context.WithoutCancel(ctx), r.stopTime()+seconds(r.new.ReadySec)))
}

// exchange restarts the service on the unit of the new generation.
func (r *rollout) exchange(ctx context.Context) error {
	if err := r.pin(r.new.Number, r.fresh); err != nil {
		return err
	}
	if err := r.Systemd.Reload(ctx); err != nil {
		return err
	}
	r.say(Info, "start", "restarting %s", list(r.fresh))
	return r.again(ctx, r.stopTime()+seconds(r.new.ReadySec))
}

// again restarts the service on the unit that systemd knows now.
func (r *rollout) again(ctx context.Context, limit time.Duration) error {
	if stopping, err := r.Systemd.Stopping(ctx); err != nil || stopping {
		return err
	}
	name := units.Instance(r.app, 0)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	result, err := r.Systemd.Restart(ctx, name)
	if errors.Is(err, context.DeadlineExceeded) {
		return &Failure{name, fmt.Sprintf("was still starting after %.0f s", limit.Seconds())}
	}
	u, e := r.unit(context.WithoutCancel(ctx), name)
	if e != nil {
		return e
	}
	return started(result, err, u)
}
