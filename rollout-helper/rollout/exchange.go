package rollout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"app-rollout/units"
	"app-rollout/units/step"
)

// inPlace reports whether the one service of mode 0 is restarted: it has only one name,
// so the old one stops before the new one starts. As in any rollout the commit comes when
// the new one is ready, and the old one comes back if it is not.
func (r *rollout) inPlace() bool {
	return r.new.Mode == 0 && slices.Contains(r.was, units.Service(r.app))
}

// exchange restarts the service on the unit of the new generation, which systemd has
// read: see await.
func (r *rollout) exchange(ctx context.Context) error {
	r.bounced = true
	r.say(Info, step.Start, "restarting %s", list(r.fresh))
	_ = r.drained(ctx, r.was, nil, allowance{}) // it only counts
	return r.following(func() error { return r.bounce(ctx, r.stopTime()+seconds(r.new.ReadySec)) })
}

// reinstate gives the one service of mode 0 its old unit again, if it was exchanged, and
// restarts it on that if it may run on the new one. known is false if systemd did not
// answer, so that nobody knows which generation the service runs. Then its file must stay,
// for the next run to see.
func (r *rollout) reinstate(ctx context.Context) (known bool, err error) {
	if !r.exchanged {
		return true, nil
	}
	name := units.Service(r.app)
	if err := r.writeOld(name); err != nil {
		return false, err
	}
	if err := r.Systemd.Reload(ctx); err != nil {
		return false, err
	}
	if !r.bounced {
		// If it has crashed while it waited for its turn, systemd has started it from the
		// unit that was loaded then.
		u, err := r.unit(ctx, name)
		if err != nil || !r.startedFrom(r.new, u) {
			return err == nil, err
		}
	}
	r.say(Info, step.Start, "restarting %s on what it was before", list([]string{name}))
	err = r.bounce(ctx, r.stopTime()+seconds(r.new.ReadySec))
	var failure *Failure
	return err == nil || errors.As(err, &failure), err
}

// writeOld writes the unit file that brings the old generation back. If there is none,
// what the generator makes of the .env does.
func (r *rollout) writeOld(name string) error {
	path := r.Layout.UnitFile(name)
	if r.old == nil {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	text, err := r.store.Unit(r.old.Number)
	if err != nil {
		return err
	}
	return writeUnit(path, append(ownUnit(text), comingBack...))
}

// bounce restarts the service on the unit that systemd has loaded.
func (r *rollout) bounce(ctx context.Context, limit time.Duration) error {
	if stopping, err := r.Systemd.Stopping(ctx); err != nil || stopping {
		return err
	}
	name := units.Service(r.app)
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
