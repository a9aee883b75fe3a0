package rollout

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"app-rollout/units/problem"
	"app-rollout/units/step"
)

// stop stops the old units.
func (r *rollout) stop(ctx context.Context) error {
	surplus := r.surplus()
	if len(surplus) == 0 {
		return nil
	}
	closes := ""
	if r.parting != nil && r.parting.Idle > r.parted.Idle {
		closes = fmt.Sprintf(", which closes %d connection(s) at rest", r.parting.Idle-r.parted.Idle)
	}
	if rest := without(surplus, r.told()); len(rest) > 0 {
		r.say(Info, step.Stop, "stopping %s%s", list(rest), closes)
	}
	return r.leave(ctx, surplus, r.candidate())
}

// leave stops units that were drained, those too that the drain has told to stop, and
// waits until all have ended. New connections stay with those that serve.
func (r *rollout) leave(ctx context.Context, names, serving []string) error {
	return r.following(func() error {
		return r.whileSteering(ctx, serving, func() error {
			s := r.stops()
			r.stopping = nil
			for _, name := range without(names, s.begun) {
				s.begin(ctx, name)
			}
			return s.wait()
		})
	})
}

// stops are the stops of the units that are drained.
func (r *rollout) stops() *stops {
	if r.stopping == nil {
		r.stopping = newStops(r.Machine, r.stopTime())
	}
	return r.stopping
}

// told are the units that the drain has told to stop.
func (r *rollout) told() []string {
	if r.stopping == nil {
		return nil
	}
	return r.stopping.begun
}

// stopTime is how long the slower of both generations may take to stop.
func (r *rollout) stopTime() time.Duration {
	s := r.new.TimeoutStopSec
	if r.old != nil {
		s = max(s, r.old.TimeoutStopSec)
	}
	return seconds(s) + stopGrace
}

// stops are the stops of units, which need not begin at once.
type stops struct {
	machine *Machine
	limit   time.Duration // for each, from when it begins
	pace    *pace
	begun   []string // the units

	mu   sync.Mutex
	errs []error
}

func newStops(m *Machine, limit time.Duration) *stops {
	return &stops{machine: m, limit: limit, pace: newPace(half(), stopSlot)}
}

// begin tells a unit to stop when it is its turn. A cancelled context does not end that:
// systemd finishes a stop that is under way anyway.
func (s *stops) begin(ctx context.Context, name string) {
	s.begun = append(s.begun, name)
	s.pace.begin(func(func()) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.limit)
		defer cancel()
		err := s.machine.endOne(ctx, name)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.errs = append(s.errs, err)
	})
}

// wait waits until all have stopped.
func (s *stops) wait() error {
	s.pace.wait()
	return errors.Join(s.errs...)
}

// end stops units, each within the limit, and lets systemd forget those that failed.
func (m *Machine) end(ctx context.Context, names []string, limit time.Duration) error {
	s := newStops(m, limit)
	for _, name := range names {
		s.begin(ctx, name)
	}
	return s.wait()
}

func (m *Machine) endOne(ctx context.Context, name string) error {
	us, err := m.Systemd.List(ctx, name)
	if err != nil {
		return err
	}
	if len(us) > 0 && us[0].Live() {
		result, err := m.Systemd.Stop(ctx, name)
		if err != nil {
			return fmt.Errorf("%s could not be stopped: %w", name, err)
		}
		if us, err = m.Systemd.List(ctx, name); err != nil {
			return err
		}
		if len(us) > 0 && us[0].Live() {
			return &problem.Problem{
				Text:   fmt.Sprintf("%s was to be stopped (%s) but is %s", name, result, us[0].Active),
				Remedy: "stop it: systemctl stop " + name,
			}
		}
	}
	if len(us) == 0 {
		return nil // systemd has forgotten it
	}
	return m.Systemd.ResetFailed(ctx, name)
}
