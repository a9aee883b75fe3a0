package traffic

import (
	"errors"
	"path/filepath"
	"time"

	"app-rollout/rollout-helper/closing"
	"app-rollout/rollout-helper/steering"
	"app-rollout/rollout-helper/systemd"
	"app-rollout/units"
)

// telling is what tells the clients of one app to close. It is opened in the
// background, since that takes the kernel some time for each network interface.
type telling struct {
	deadline time.Time     // nobody waits for it to be opened after that
	opened   chan struct{} // closed when the two below are there
	closing  *closing.Closing
	err      error
}

// openTime is how long opening is waited for. A tenth of a second is usual.
const openTime = 5 * time.Second

// ready waits until it is opened, and returns why it could not be.
func (t *telling) ready() error {
	select {
	case <-t.opened:
		return t.err // though the deadline may have passed since
	default:
	}
	timer := time.NewTimer(time.Until(t.deadline))
	defer timer.Stop()
	select {
	case <-t.opened:
		return t.err
	case <-timer.C:
		return closing.ErrLate
	}
}

// pins is where an app's links are pinned.
func pins(app string) string { return filepath.Join(units.BPFDir, "close-"+app) }

// PrepareTell begins what Tell needs, in the background.
func (k *Kernel) PrepareTell(app string) {
	l := k.app(app)
	if l.telling != nil {
		return
	}
	t := &telling{deadline: time.Now().Add(openTime), opened: make(chan struct{})}
	l.telling = t
	go func() {
		defer close(t.opened)
		t.closing, t.err = k.openClosing(pins(app))
	}()
}

// Tell has the units' answers tell their kept-alive clients to close, from the next
// request on. It is closing.ErrLate as long as the kernel has not taken the programs.
func (k *Kernel) Tell(app string, us []systemd.Unit) error {
	k.PrepareTell(app)
	t := k.app(app).telling
	err := t.ready()
	if err == nil {
		err = t.closing.Tell(paths(us))
	}
	var partial *closing.Partial
	if errors.Is(err, closing.ErrLate) {
		return err
	}
	if err != nil && !errors.As(err, &partial) {
		return &steering.Unavailable{Reason: err.Error(), Err: err}
	}
	k.app(app).tells = true
	return err
}

// Told counts the connections of the app whose clients were told to close, since
// PrepareTell, and the answers that could not tell it.
func (k *Kernel) Told(app string) (told, untold int) {
	t := k.app(app).telling
	if t == nil || t.ready() != nil {
		return 0, 0
	}
	counts, err := t.closing.Counts()
	if err != nil {
		return 0, 0
	}
	return int(counts.Told + counts.Closing), int(counts.Untold)
}

// EndTell takes off what Tell has attached, also what a run before has left. What is still
// being opened then is taken off when that is done or, if this process has ended by then,
// by the next run.
func (k *Kernel) EndTell(app string) error {
	l := k.app(app)
	t := l.telling
	l.telling, l.tells = nil, false
	if t == nil {
		return closing.Sweep(pins(app))
	}
	switch err := t.ready(); {
	case errors.Is(err, closing.ErrLate):
		go func() {
			if <-t.opened; t.err == nil {
				_ = t.closing.Close()
			}
		}()
		return nil
	case err != nil:
		return closing.Sweep(pins(app))
	}
	return t.closing.Close()
}
