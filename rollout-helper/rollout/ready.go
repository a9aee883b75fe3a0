package rollout

import (
	"context"
	"errors"
	"fmt"
	"time"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/steering"
	"app-rollout/rollout-helper/systemd"
	"app-rollout/units/step"
)

// ready waits until every new instance has proved itself: it is active; a process in its
// own control group listens where it must; nobody else listens there; and the instance
// answers when it alone is asked. That its start job is done proves nothing, nor that it
// listens: many servers bind first, and load the app after that.
func (r *rollout) ready(ctx context.Context) error {
	if len(r.fresh) == 0 {
		return nil
	}
	deadline := r.began.Add(seconds(r.new.ReadySec))
	answered := make(map[string]string)
	for {
		l, err := r.look(ctx)
		if err != nil {
			return err
		}
		lacks, err := r.unready(ctx, l, answered)
		if err != nil {
			return err
		}
		if lacks == nil {
			r.say(Info, step.Ready, "%s %s ready", list(r.fresh), verb(r.fresh, "is", "are"))
			if r.settled != nil {
				r.settled()
			}
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			lacks.How = fmt.Sprintf("was not ready after %d s: it %s", r.new.ReadySec, lacks.How)
			return lacks
		}
		wait(ctx, r.pause())
	}
}

// unready returns what a new instance still lacks to be ready, nil if none lacks
// anything; an error if it would not help to wait longer. Those that have answered
// are noted in answered, with their invocation, and not asked again.
func (r *rollout) unready(ctx context.Context, l look, answered map[string]string) (*Failure, error) {
	serving, fresh := l.of(r.was), l.of(r.fresh)
	for _, u := range fresh {
		if err := started("done", nil, u); err != nil && !r.patient {
			return nil, err
		}
	}
	if len(fresh) < len(r.fresh) {
		return &Failure{r.fresh[0], "is not loaded"}, nil
	}
	if err := r.checkPorts(l.view, fresh); err != nil {
		return nil, err
	}
	if lacks, err := r.lacks(l.view, fresh); lacks != nil || err != nil {
		return lacks, err
	}
	if err := r.checkNoStranger(l); err != nil {
		return nil, err
	}
	asked := fresh
	if len(serving) == 0 {
		// If no generation serves, the new one does, even while it is asked.
		serving, asked = fresh, nil
	}
	if err := r.steer(l.view, serving, asked); err != nil {
		return nil, err
	}
	for _, u := range fresh {
		if run, has := answered[u.Name]; has && run == u.Invocation {
			continue
		}
		if err := r.ask(ctx, l.view, u); err != nil {
			return &Failure{u.Name, err.Error()}, nil
		}
		answered[u.Name] = u.Invocation
	}
	r.runs = make(map[string]string)
	for _, u := range fresh {
		r.runs[u.Name] = u.Invocation
	}
	return nil, nil
}

// askable reports whether it is known where the instances must listen.
func (r *rollout) askable() bool { return r.new.Port != 0 || len(r.groups) > 0 }

// ask asks a unit; see Traffic. If this machine has no way to ask, that is no error.
func (r *rollout) ask(ctx context.Context, v *sockets.View, u systemd.Unit) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	err := r.Traffic.Ask(ctx, r.app, v, u, r.groups, r.new.Plan)
	var not *steering.Unavailable
	if !errors.As(err, &not) {
		return err
	}
	// A rollout that cannot ask does not fail, but it says so, once.
	if r.askable() && !r.unasked {
		r.unasked = true
		what := "whether the new instances accept connections is not asked"
		if r.new.HealthPath != "" {
			what = "SYSTEMD_CLUSTER_HEALTH_PATH is not asked for"
		}
		r.say(Warning, step.Ready, "%s: %s", what, not.Reason)
	}
	return nil
}
