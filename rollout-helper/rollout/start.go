package rollout

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/systemd"
	"app-rollout/units/step"
)

// How long an instance counts as starting and as stopping: it takes a CPU while its
// sandbox is set up and its program does what it does before it listens, and while
// its memory is given back.
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
	if err := r.checkPortFree(); err != nil {
		return err
	}
	if why := r.surge(); why != "" {
		r.say(Warning, step.Start, "%s", why)
	}
	r.warnUnshared()
	r.say(Info, step.Start, "starting %s", list(r.fresh))
	var booting booting
	return during(bootTick, func() error { return r.startAll(ctx, &booting) }, func() {
		booting.expire()
		if len(r.was) == 0 || r.receipt.Traffic != Steered && len(booting.names()) == 0 {
			return
		}
		// The next step meets an error again.
		if l, err := r.glance(context.WithoutCancel(ctx), r.was...); err == nil {
			_ = r.steer(l.view, l.of(r.was), nil)
			r.seeBooting(ctx, &booting, l.view)
		}
	})
}

// startAll starts the new instances, as many at a time as half of the CPUs. After
// the first failure none is begun. All starts have ended when it returns, so that
// none comes after the stop that follows a failure.
func (r *rollout) startAll(ctx context.Context, booting *booting) error {
	ctx, cancel := context.WithDeadline(ctx, r.began.Add(seconds(r.new.ReadySec)))
	defer cancel()
	var first error
	var once sync.Once
	// However many there are, all have begun in a tenth of the time.
	slot := min(startSlot, seconds(r.new.ReadySec)/10*time.Duration(half())/time.Duration(len(r.fresh)))
	paced(len(r.fresh), half(), slot, func(i int, _ func()) {
		err := ctx.Err()
		if errors.Is(err, context.DeadlineExceeded) {
			err = &Failure{r.fresh[i], fmt.Sprintf("was not started within %d s", r.new.ReadySec)}
		}
		if err == nil {
			err = r.startOne(ctx, r.fresh[i])
		}
		if err == nil {
			err = r.awaitListen(ctx, booting, r.fresh[i], slot-tick)
		}
		if err != nil {
			once.Do(func() { first = err; cancel() })
		}
	})
	return first
}

func (r *rollout) startOne(ctx context.Context, unit string) error {
	result, err := r.Systemd.Start(ctx, unit)
	if errors.Is(err, context.DeadlineExceeded) {
		return &Failure{unit, fmt.Sprintf("was still starting after %d s", r.new.ReadySec)}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err != nil {
		// A file that came since the run began may be why, as a mask.
		if shadows := r.Layout.Shadows(r.app); shadows != nil {
			return shadows
		}
	}
	u, e := r.unit(ctx, unit)
	if e != nil {
		return e
	}
	return started(result, err, u)
}

// awaitListen waits until an instance listens, if others serve: until then it takes
// a CPU from them. It fails only if the instance ended; what else is missing when
// the limit has passed, the ready step reports.
func (r *rollout) awaitListen(ctx context.Context, booting *booting, unit string, limit time.Duration) error {
	if len(r.was) == 0 || !r.askable() || limit <= 0 {
		return nil
	}
	select {
	case err := <-booting.add(unit, time.Now().Add(limit)):
		return err
	case <-ctx.Done():
		return nil
	}
}

// seeBooting ends the waiting for the instances that listen now, and for those
// that have ended.
func (r *rollout) seeBooting(ctx context.Context, booting *booting, v *sockets.View) {
	names := booting.names()
	if len(names) == 0 {
		return
	}
	us, err := r.Systemd.Refresh(ctx, names...)
	for _, name := range names {
		at := slices.IndexFunc(us, func(u systemd.Unit) bool { return u.Name == name })
		if err != nil || at < 0 {
			booting.done(name, err)
			continue
		}
		lack, err := "", started("done", nil, us[at])
		if err == nil {
			lack, err = r.listens(v, us[at])
		}
		if err != nil || lack == "" {
			booting.done(name, err)
		}
	}
}

// booting are the instances that have been started and do not listen yet.
type booting struct {
	mu    sync.Mutex
	units map[string]awaited
}

// awaited is one of them, and who waits for it.
type awaited struct {
	until time.Time
	told  chan error
}

// add adds an instance. The channel tells when it listens, has ended or is not
// waited for any longer.
func (b *booting) add(name string, until time.Time) <-chan error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.units == nil {
		b.units = make(map[string]awaited)
	}
	told := make(chan error, 1)
	b.units[name] = awaited{until, told}
	return told
}

// done removes an instance, and tells those who wait for it.
func (b *booting) done(name string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.units[name].told <- err
	delete(b.units, name)
}

// expire ends the waiting for those that have had their time.
func (b *booting) expire() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, a := range b.units {
		if !time.Now().Before(a.until) {
			a.told <- nil
			delete(b.units, name)
		}
	}
}

func (b *booting) names() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.units))
}

// checkPortFree fails if a stranger that runs as the app's user listens on its port.
// Otherwise the new instances would get a part of the stranger's connections until
// checkNoStranger fails. Where instances run already, it is they who listen there. A
// stranger with an address of its own is no failure, for the app may want another
// address.
func (r *rollout) checkPortFree() error {
	uid, known := r.Layout.UserID(r.new.User)
	if len(r.was) > 0 || r.new.Port == 0 || !known {
		return nil
	}
	v, err := r.Traffic.Look()
	if err != nil {
		return err
	}
	for _, l := range v.Listeners {
		address := l.Addr.Addr().Unmap()
		if l.UID == uid && int(l.Addr.Port()) == r.new.Port && (address.IsUnspecified() || address.IsLoopback()) {
			return r.strangerAt(l, "")
		}
	}
	return nil
}
