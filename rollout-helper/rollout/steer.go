package rollout

import (
	"context"
	"errors"
	"slices"
	"time"

	"app-rollout/rollout-helper/steering"
	"app-rollout/rollout-helper/systemd"
	"app-rollout/units/step"
)

// rung is the one below steering.
func (r *rollout) rung() string {
	if r.Traffic.Migrates() {
		return Migrated
	}
	return Plain
}

// lead steers as long as that is to be had. When it is not, the rollout goes
// on a rung lower, and says why: it never fails for that.
func (r *rollout) lead(serving, asked []systemd.Unit) error {
	if r.record.Rung != Steered {
		return nil
	}
	err := r.Traffic.Lead(r.app, serving, asked)
	var not *steering.Unavailable
	if errors.As(err, &not) {
		r.record.Rung, r.record.RungWhy = r.rung(), not.Reason
		r.say(Warning, step.Hold, "traffic is not steered, only %s: %s", r.record.Rung, r.record.RungWhy)
		return r.Traffic.Release(r.app, slices.Concat(serving, asked))
	}
	return err
}

// leadTo is lead for units whose state is still to be read, but for what has been
// seen of them; it returns what it has read.
func (r *rollout) leadTo(ctx context.Context, seen []systemd.Unit, names []string) ([]systemd.Unit, error) {
	if r.record.Rung != Steered {
		return nil, nil
	}
	us, err := r.Systemd.Again(ctx, seen, names...)
	if err != nil {
		return nil, err
	}
	return us, r.lead(us, nil)
}

// leading does something that takes its time, and meanwhile keeps new
// connections with the units: if one of them is restarted, its new listeners
// get their share.
func (r *rollout) leading(ctx context.Context, names []string, do func() error) error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var us []systemd.Unit
	for {
		select {
		case err := <-done:
			return err
		case <-ticker.C:
			// An error will be met again by the next step.
			us, _ = r.leadTo(context.WithoutCancel(ctx), us, names)
		}
	}
}
