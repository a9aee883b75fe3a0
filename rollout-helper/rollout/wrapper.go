package rollout

import (
	"context"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/systemd"
	"app-rollout/units/problem"
	"app-rollout/units/step"
)

// Wrapped says that the server of one of the units cannot stop by itself, because a
// wrapper stands between systemd and it; nil if that is so of none, or cannot be seen.
// A rollout drains an instance before it stops it, but a plain stop and a reboot do
// not.
func (m *Machine) Wrapped(v *sockets.View, us []systemd.Unit, port int) *problem.Problem {
	for _, u := range us {
		if !u.Up() || u.MainPID == 0 || u.KillMode == "control-group" || u.KillSignal <= 0 || u.KillSignal == int32(unix.SIGKILL) {
			continue
		}
		w, err := m.Traffic.Wrapped(v, u, port)
		if err != nil || w == nil {
			continue
		}
		server := problem.Printable(w.Server)
		return &problem.Problem{
			Text: fmt.Sprintf("a stop kills %s before it can finish: %s reaches %s first, which does not hand it on and wait",
				server, unix.SignalName(syscall.Signal(u.KillSignal)), problem.Printable(w.Name)),
			Remedy: "run the server itself, in a script with exec before it, or set SYSTEMD_KILL_MODE=control-group",
		}
	}
	return nil
}

// tellWrapped warns of a wrapper when a rollout is over.
func (r *rollout) tellWrapped(ctx context.Context) {
	l, err := r.glance(ctx, r.candidate()...)
	if err != nil {
		return // it is advice, and others go without it too
	}
	if p := r.Wrapped(l.view, l.of(r.candidate()), r.new.Port); p != nil {
		r.warn(step.Forget, p)
	}
}
