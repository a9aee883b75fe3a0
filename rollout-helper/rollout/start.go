package rollout

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"app-rollout/rollout-helper/systemd"
	"app-rollout/units/step"
)

// How long an instance counts as starting and as stopping. Setting up its sandbox
// and what its program does before it listens takes a CPU, and so does giving
// back its memory.
const (
	startSlot = time.Second
	stopSlot  = 100 * time.Millisecond
)

// start starts the new instances.
func (r *rollout) start(ctx context.Context) error {
	if r.inPlace() {
		return r.exchange(ctx)
	}
	if len(r.fresh) == 0 {
		return nil
	}
	if err := r.free(); err != nil {
		return err
	}
	if why := r.surge(ctx); why != "" {
		r.say(Warning, step.Start, "%s", why)
	}
	r.say(Info, step.Start, "starting %s", list(r.fresh))
	return r.leading(ctx, r.was, func() error {
		ctx, cancel := context.WithDeadline(ctx, r.began.Add(seconds(r.new.ReadySec)))
		defer cancel()
		// The first failure ends the other starts; but all have ended before
		// this returns, so that none comes after the stop that follows.
		var first error
		var once sync.Once
		// However many there are, all have begun in a tenth of the time.
		slot := min(startSlot, seconds(r.new.ReadySec)/10*time.Duration(half())/time.Duration(len(r.fresh)))
		paced(len(r.fresh), half(), slot, func(i int) {
			err := ctx.Err()
			if errors.Is(err, context.DeadlineExceeded) {
				err = &Failure{r.fresh[i], fmt.Sprintf("was not started within %d s", r.new.ReadySec)}
			}
			if err == nil {
				err = r.startOne(ctx, r.fresh[i])
			}
			if err == nil {
				err = r.boots(ctx, r.fresh[i], slot-tick)
			}
			if err != nil {
				once.Do(func() { first = err; cancel() })
			}
		})
		return first
	})
}

func (r *rollout) startOne(ctx context.Context, unit string) error {
	result, err := r.Systemd.Start(ctx, unit)
	if errors.Is(err, context.DeadlineExceeded) {
		return &Failure{unit, fmt.Sprintf("was still starting after %d s", r.new.ReadySec)}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	u, e := r.unit(ctx, unit)
	if e != nil {
		return e
	}
	return started(result, err, u)
}

// boots waits until an instance listens, where others serve: until then its
// program takes a CPU. What one lacks that does not listen, ready tells; one that
// ends is an error.
func (r *rollout) boots(ctx context.Context, unit string, limit time.Duration) error {
	if len(r.was) == 0 || !r.askable() {
		return nil
	}
	var us []systemd.Unit
	for end := time.Now().Add(limit); ctx.Err() == nil && time.Now().Before(end); wait(ctx, bootTick) {
		var err error
		if us, err = r.Systemd.Again(ctx, us, unit); err != nil || len(us) == 0 {
			return err
		}
		if err := started("done", nil, us[0]); err != nil {
			return err
		}
		listeners, err := r.Traffic.Listeners()
		if err != nil {
			return err
		}
		if lack, err := r.listens(us[0], listeners); err != nil || lack == "" {
			return err
		}
	}
	return nil
}

// free holds, before anything is started, that nobody else of the app's user
// listens on its port: else the new instances would get a part of his
// connections until alone finds it out. Where instances run already they are
// the ones that share it, in groups that are known. Somebody who has an address
// of his own is let be: the app may want another.
func (r *rollout) free() error {
	uid, known := r.Layout.UserID(r.new.User)
	if len(r.was) > 0 || r.new.Port == 0 || !known {
		return nil
	}
	listeners, err := r.Traffic.Listeners()
	if err != nil {
		return err
	}
	for _, l := range listeners {
		address := l.Addr.Addr().Unmap()
		if l.UID == uid && int(l.Addr.Port()) == r.new.Port && (address.IsUnspecified() || address.IsLoopback()) {
			return r.taken(l)
		}
	}
	return nil
}
