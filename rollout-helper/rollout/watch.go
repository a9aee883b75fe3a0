package rollout

import (
	"context"
	"fmt"
	"time"

	"app-rollout/units/step"
)

// watch keeps the old units warm while the new ones are under real traffic:
// any exit, restart or failed health check ends the rollout.
func (r *rollout) watch(ctx context.Context) error {
	if len(r.fresh) == 0 || r.new.WatchSec == 0 {
		return nil
	}
	r.say(Info, step.Watch, "watching %s for %d s", list(r.fresh), r.new.WatchSec)
	end := time.Now().Add(seconds(r.new.WatchSec))
	health := time.Now()
	missed := false // at the look before, one did not listen
	for {
		l, err := r.look(ctx)
		if err != nil {
			return err
		}
		fresh := l.of(r.fresh)
		for _, u := range fresh {
			// At boot it may have been restarted before it was ready.
			if !u.Up() || u.Restarts > 0 && !r.patient {
				return &Failure{u.Name, ended(u) + " while it was watched"}
			}
			if u.Invocation != r.runs[u.Name] {
				return &Failure{u.Name, "was restarted while it was watched"}
			}
		}
		if len(fresh) < len(r.fresh) {
			return &Failure{list(r.fresh), "is gone while it was watched"}
		}
		// A listener that was opened meanwhile, by a worker that was replaced,
		// gets its share.
		if err := r.steer(l.view, l.of(r.candidate()), nil); err != nil {
			return err
		}
		lacks, err := r.lacks(l.view, fresh)
		if err != nil {
			return err
		}
		// Of one that ends, the listener goes first; the next look tells how it
		// ended.
		if lacks != nil && missed {
			lacks.How += ", while it was watched"
			return lacks
		}
		missed = lacks != nil
		if r.new.HealthPath != "" && r.askable() && time.Since(health) >= healthTick {
			for _, u := range fresh {
				if err := r.ask(ctx, l.view, u); err != nil {
					return &Failure{u.Name, fmt.Sprintf("%v while it was watched", err)}
				}
			}
			health = time.Now()
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if !missed && time.Now().After(end) {
			return nil
		}
		wait(ctx, tick)
	}
}
