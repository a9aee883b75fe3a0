package rollout

import (
	"context"
	"fmt"
	"time"

	"app-rollout/rollout-helper/systemd"
	"app-rollout/units/step"
)

// watch sees whether the new units hold under real traffic, while the old ones are kept
// running. Any exit, restart or failed health check ends the rollout. So does, at the
// end, a unit that has accepted nothing though connections wait on it.
func (r *rollout) watch(ctx context.Context) error {
	if len(r.fresh) == 0 || r.new.WatchSec == 0 {
		return nil
	}
	r.say(Info, step.Watch, "watching %s for %d s", list(r.fresh), r.new.WatchSec)
	end := time.Now().Add(seconds(r.new.WatchSec))
	health := time.Now()
	missed := false // at the look before, an instance did not listen
	for {
		l, err := r.look(ctx)
		if err != nil {
			return err
		}
		fresh := l.of(r.fresh)
		if err := r.unbroken(fresh, "while it was watched"); err != nil {
			return err
		}
		if err := r.checkPorts(l.view, fresh); err != nil {
			return err
		}
		// A worker that was replaced may have opened a new listener, which gets its share.
		if err := r.steer(l.view, l.of(r.candidate()), nil); err != nil {
			return err
		}
		r.observe(l)
		lacks, err := r.lacks(l.view, fresh)
		if err != nil {
			return err
		}
		// An instance that ends first loses its listener. The next look shows how it
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
		if err := r.stalls.see(r.Traffic, l.view, fresh); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if !missed && time.Now().After(end) {
			dead, decided := r.stalls.dead(fresh)
			if len(dead) > 0 {
				return &Failure{dead[0], "has accepted none of the connections that wait for it, while it was watched"}
			}
			if decided || time.Since(end) > 2*stallTime {
				return nil
			}
		}
		wait(ctx, r.pause())
	}
}

// unbroken fails if a new instance has ended, or was restarted, since it was ready; when
// says when that was.
func (r *rollout) unbroken(fresh []systemd.Unit, when string) error {
	for _, u := range fresh {
		if !u.Up() || u.Restarts > 0 {
			return &Failure{u.Name, ended(u) + " " + when}
		}
		if u.Invocation != r.runs[u.Name] {
			return &Failure{u.Name, "was restarted " + when}
		}
	}
	if len(fresh) < len(r.fresh) {
		return &Failure{list(r.fresh), "is gone " + when}
	}
	return nil
}
