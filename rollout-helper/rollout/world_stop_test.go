package rollout

import (
	"context"
	"errors"
	"time"
)

// stopped is when a unit was told to stop, and how long it got for it.
type stopped struct {
	at    time.Time
	limit time.Duration
}

func (w *world) Stop(ctx context.Context, name string) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.call("stop %s", name); err != nil {
		return "", err
	}
	if until, limited := ctx.Deadline(); limited && w.stops != nil {
		w.stops[name] = stopped{time.Now(), time.Until(until)}
	}
	u := w.units[name]
	if u == nil {
		return "", errors.New("Unit " + name + " not loaded.")
	}
	if u.pending.After(time.Now()) {
		w.t.Errorf("%s was stopped with a connection in hand", name)
	}
	if w.stopTakes > 0 {
		w.mu.Unlock()
		time.Sleep(w.stopTakes)
		w.mu.Lock()
	}
	u.Active, u.Sub, u.ControlGroup, u.MainPID = "inactive", "dead", "", 0
	if u.behave == "exits" || u.behave == "dies" {
		u.Active = "failed"
	}
	w.led = without(w.led, []string{name})
	return "done", nil
}
