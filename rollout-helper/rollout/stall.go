package rollout

import (
	"context"
	"slices"
	"time"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/systemd"
)

// stallTime is how long a connection must have waited on an instance that has accepted
// none, for that instance to be taken as dead.
const stallTime = time.Second

// stalls are the new instances on which connections wait, by name.
type stalls map[string]*stall

// stall is what was seen of one of them.
type stall struct {
	serves bool // it has been seen to accept a connection, or with one that it has accepted
	// waiting are connections that have waited since then, by their cookies. An
	// instance that accepts any takes those that wait longest.
	waiting map[uint64]bool
	since   time.Time
}

// see notes who waits for the units now. An instance that is busy has accepted what it
// is busy with, however many wait: it is not looked at any more.
func (s stalls) see(traffic Traffic, v *sockets.View, us []systemd.Unit) error {
	for _, u := range us {
		queued, err := v.Queued(u.ControlGroup)
		if err != nil {
			return err
		}
		one := s[u.Name]
		switch {
		case one != nil && one.serves:
		case queued == 0:
			if one != nil {
				one.serves = true // who waited was accepted
			}
		case one == nil:
			// At the next look most queues are empty.
			s[u.Name] = new(stall)
		default:
			waiting, accepted, err := traffic.Waiting(v, u)
			if err != nil {
				return err
			}
			one.note(waiting, accepted)
		}
	}
	return nil
}

func (s *stall) note(waiting []uint64, accepted bool) {
	s.serves = accepted
	still := make(map[uint64]bool)
	for _, cookie := range waiting {
		if s.waiting[cookie] {
			still[cookie] = true
		}
	}
	if len(still) == 0 {
		s.since = time.Now()
		for _, cookie := range waiting {
			still[cookie] = true
		}
	}
	s.waiting = still
}

// dead are those of the units that accept nothing. It is not decided yet as long as
// connections have waited on one for less than the stall time.
func (s stalls) dead(us []systemd.Unit) (names []string, decided bool) {
	decided = true
	for _, u := range us {
		one := s[u.Name]
		switch {
		case one == nil || one.serves:
		case len(one.waiting) > 0 && time.Since(one.since) >= stallTime:
			names = append(names, u.Name)
		default:
			decided = false
		}
	}
	return names, decided
}

// deaf are those of the units, which are to stop, that accept nothing though connections
// wait on them: these go to the old ones as soon as the unit is stopped. It takes as long
// as that must be seen, if it has not been seen before.
func (r *rollout) deaf(ctx context.Context, names []string) (deaf []string) {
	for end := time.Now().Add(2 * stallTime); ; wait(context.WithoutCancel(ctx), tick) {
		l, err := r.look(context.WithoutCancel(ctx))
		if err != nil {
			return nil
		}
		us := slices.DeleteFunc(l.of(names), func(u systemd.Unit) bool { return !u.Up() })
		if err := r.stalls.see(r.Traffic, l.view, us); err != nil {
			return nil
		}
		deaf, decided := r.stalls.dead(us)
		if decided || ctx.Err() != nil || time.Now().After(end) {
			return deaf
		}
	}
}
