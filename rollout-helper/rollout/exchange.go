package rollout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"app-rollout/units"
	"app-rollout/units/store"
)

// restart is the rollout of mode 0: one service under one name, so the old one
// stops before the new one starts. Nothing is committed before the new one is
// ready, and the old one comes back if it is not.
func (r *rollout) restart(ctx context.Context) error {
	r.began = time.Now()
	r.record = &store.Receipt{Started: r.began, Rung: Plain, RungWhy: "one service is restarted in place"}
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
	if err != nil {
		if committed, e := r.committed(); e != nil {
			return errors.Join(err, e)
		} else if !committed {
			// On the way back the service is started anew, not stopped.
			r.was, r.fresh = was, nil
			return r.back(ctx, err)
		}
	}
	return r.forward(ctx, step{"forget", r.forget})
}

// exchange restarts the service on the unit of the new generation.
func (r *rollout) exchange(ctx context.Context) error {
	r.exchanged = true
	if err := r.pin(r.new.Number, r.fresh); err != nil {
		return err
	}
	if err := r.Systemd.Reload(ctx); err != nil {
		return err
	}
	r.say(Info, "start", "restarting %s", list(r.fresh))
	return r.bounce(ctx, r.stopTime()+seconds(r.new.ReadySec))
}

// reinstate restarts the one service of mode 0 on its old generation, if it was
// exchanged. Not known is whether it runs on that again when systemd did not
// answer: then its file must stay, which tells it to the next run.
func (r *rollout) reinstate(ctx context.Context) (known bool, err error) {
	if !r.exchanged {
		return true, nil
	}
	name := units.Instance(r.app, 0)
	if r.old == nil {
		err = os.Remove(r.Layout.UnitFile(name))
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	} else {
		var text []byte
		if text, err = r.store.Unit(r.old.Number); err == nil {
			err = writeUnit(r.Layout.UnitFile(name), append(pinned(text), coming...))
		}
	}
	if err != nil {
		return false, err
	}
	if err := r.Systemd.Reload(ctx); err != nil {
		return false, err
	}
	r.say(Info, "start", "restarting %s on what it was before", list([]string{name}))
	err = r.bounce(ctx, r.stopTime()+seconds(r.new.ReadySec))
	var failure *Failure
	return err == nil || errors.As(err, &failure), err
}

// bounce restarts the service on the unit that systemd knows now.
func (r *rollout) bounce(ctx context.Context, limit time.Duration) error {
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
	if err != nil {
		return fmt.Errorf("%s could not be restarted: %w", name, err)
	}
	u, err := r.unit(context.WithoutCancel(ctx), name)
	if err != nil {
		return err
	}
	return started(result, nil, u)
}
