package rollout

import (
	"context"
	"slices"
	"sync"
	"time"
)

// turns paces the starts of all apps of a run. An app's turn takes as many CPUs as it
// starts instances at a time. Those that wait get their turns in the order of the run.
//
// What limits starts is the CPUs. So a turn ends when the app is ready, or when what it
// has started uses no CPU any more: a slow app that waits for its database delays no
// other one. See rollout.attend.
type turns struct {
	mu      sync.Mutex
	free    int // CPUs
	slots   int
	order   map[string]int
	waiting []*turn
}

type turn struct {
	at, cpus int
	begun    chan struct{}
}

func newTurns(apps []string, slots int) *turns {
	t := &turns{free: slots, slots: slots, order: make(map[string]int, len(apps))}
	for at, app := range apps {
		t.order[app] = at
	}
	return t
}

// wait waits until it is an app's turn; give ends it.
func (t *turns) wait(ctx context.Context, app string, cpus int) (give func(), err error) {
	mine := &turn{at: t.order[app], cpus: max(1, min(cpus, t.slots)), begun: make(chan struct{})}
	give = sync.OnceFunc(func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.free += mine.cpus
		t.call()
	})
	t.mu.Lock()
	t.waiting = append(t.waiting, mine)
	slices.SortStableFunc(t.waiting, func(a, b *turn) int { return a.at - b.at })
	t.call()
	t.mu.Unlock()
	select {
	case <-mine.begun:
		return give, nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	left := slices.Index(t.waiting, mine)
	if left >= 0 {
		t.waiting = slices.Delete(t.waiting, left, left+1)
		t.call() // the one behind it may take fewer
	}
	t.mu.Unlock()
	if left < 0 {
		give() // it has come just now
	}
	return func() {}, ctx.Err()
}

// call begins the turns for which there are CPUs.
func (t *turns) call() {
	for len(t.waiting) > 0 && t.waiting[0].cpus <= t.free {
		t.free -= t.waiting[0].cpus
		close(t.waiting[0].begun)
		t.waiting = t.waiting[1:]
	}
}

const (
	// glanceTick is how often it is looked whether an app that has its turn needs it.
	glanceTick = 300 * time.Millisecond
	// idleShare of one CPU or less is what waiting for something takes.
	idleShare = 0.05
	// shortTurn is how long an app has its turn whose old instances serve meanwhile: even
	// if it is ready earlier, so that not too many apps run twice at once.
	shortTurn = 3 * time.Second
	// longTurn is the longest turn of an app that goes on using the CPUs. It is no longer
	// than a quarter of the app's time to become ready.
	longTurn = 30 * time.Second
)

// cpus is how many CPUs the start of the new instances takes: one for each that is started
// at a time.
func (r *rollout) cpus() int { return max(1, min(half(), len(r.fresh))) }

// attend ends the app's turn when what it has started needs the CPUs no more, or has had
// them for long enough. stop ends it at once.
func (r *rollout) attend(ctx context.Context, give func()) (stop func()) {
	if r.batch == nil {
		return func() {}
	}
	beside := len(r.was) > 0 && !r.inPlace()
	turn, stop := context.WithTimeout(ctx, r.mostTurn(beside))
	r.turn = turn.Done()
	until := func() { <-turn.Done() }
	if !beside {
		r.settled = stop
		until = func() { r.untilIdle(turn) }
	}
	go func() {
		defer give()
		defer stop()
		until()
	}()
	return stop
}

// mostTurn is the longest turn of an app whose old instances serve beside the new ones,
// or not.
func (r *rollout) mostTurn(beside bool) time.Duration {
	if beside {
		return shortTurn
	}
	return max(shortTurn, min(longTurn, seconds(r.new.ReadySec)/4))
}

// untilIdle waits until the new instances have all used some CPU time, and then use
// hardly any more.
func (r *rollout) untilIdle(ctx context.Context) {
	for last, at := time.Duration(0), time.Now(); ; {
		wait(ctx, glanceTick)
		if ctx.Err() != nil {
			return
		}
		now := r.used(ctx)
		if last > 0 && now >= last && float64(now-last) <= idleShare*float64(time.Since(at)) {
			return
		}
		last, at = now, time.Now()
	}
}

// used is the CPU time that the new instances have used, 0 if one of them has used none
// yet: then it is still to be started.
func (r *rollout) used(ctx context.Context) (sum time.Duration) {
	us, err := r.refresh(ctx, r.app)
	if err != nil {
		return 0
	}
	us = look{units: byName(us)}.of(r.fresh)
	if len(us) < len(r.fresh) {
		return 0
	}
	for _, u := range us {
		one := r.Traffic.Used(u)
		if one == 0 {
			return 0
		}
		sum += one
	}
	return sum
}

// over is the turn of an app that has none.
var over = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// pause is the time between two looks. An app that has its turn looks at every tick.
func (r *rollout) pause() time.Duration {
	select {
	case <-r.turn:
		return r.batch.pause()
	default:
		return tick
	}
}
