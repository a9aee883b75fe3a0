package traffic

import (
	"path/filepath"

	"app-rollout/rollout-helper/closing"
	"app-rollout/rollout-helper/steering"
	"app-rollout/rollout-helper/systemd"
	"app-rollout/units"
)

// telling is what tells the clients of one app to close. It is opened in the
// background, since that takes the kernel some time for each network interface.
type telling struct {
	opened  chan struct{} // closed when the two below are there
	closing *closing.Closing
	err     error
}

// pins is where an app's links are pinned.
func pins(app string) string { return filepath.Join(units.BPFDir, "close-"+app) }

// PrepareTell begins what Tell needs, in the background.
func (k *Kernel) PrepareTell(app string) {
	l := k.app(app)
	if l.telling != nil {
		return
	}
	t := &telling{opened: make(chan struct{})}
	l.telling = t
	go func() {
		defer close(t.opened)
		t.closing, t.err = closing.Open(pins(app))
	}()
}

// Tell has the units' answers tell their kept-alive clients to close, from the next
// request on.
func (k *Kernel) Tell(app string, us []systemd.Unit) error {
	k.PrepareTell(app)
	t := k.app(app).telling
	<-t.opened
	err := t.err
	if err == nil {
		err = t.closing.Tell(paths(us))
	}
	if err != nil {
		return &steering.Unavailable{Reason: err.Error(), Err: err}
	}
	k.app(app).tells = true
	return nil
}

// Told counts the connections of the app whose clients were told to close, since
// PrepareTell, and the answers that could not tell it.
func (k *Kernel) Told(app string) (told, untold int) {
	t := k.app(app).telling
	if t == nil {
		return 0, 0
	}
	<-t.opened
	if t.err != nil {
		return 0, 0
	}
	counts, err := t.closing.Counts()
	if err != nil {
		return 0, 0
	}
	return int(counts.Told + counts.Closing), int(counts.Untold)
}

// EndTell takes off what Tell has attached, also what a run before has left.
func (k *Kernel) EndTell(app string) error {
	l := k.app(app)
	t := l.telling
	l.telling, l.tells = nil, false
	if t == nil {
		return closing.Sweep(pins(app))
	}
	<-t.opened
	if t.err != nil {
		return closing.Sweep(pins(app))
	}
	return t.closing.Close()
}
