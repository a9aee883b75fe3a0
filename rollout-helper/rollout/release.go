package rollout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"app-rollout/rollout-helper/systemd"
	"app-rollout/units"
	"app-rollout/units/problem"
	"app-rollout/units/step"
)

// The release command of a generation runs once in its rollout, before anything of it is
// started: after the freeze, since it runs what was frozen, and before the rollout's own
// time begins. It runs in one unit for each app. So two never run at the same time,
// whatever was killed: a later run waits for the end of what an earlier one has begun.
// Rollbacks, restarts, scaling and the boot run none.

// releaseTick is how often it is looked whether a release command has ended that
// somebody else has begun.
const releaseTick = 4 * tick

// release runs the release command of the candidate, if it has one, when that which a
// killed run may have left has ended.
func (r *rollout) release(ctx context.Context) error {
	r.began = time.Now()
	unit := units.ReleaseService(r.app)
	r.batch.pass(r.app) // others need not wait for it
	defer func() { r.before = append(r.before, taken(step.Release, r.began)) }()
	// Who gives up the waiting leaves alone what is waited for.
	if err := r.awaitRelease(ctx, unit); err != nil {
		return err
	}
	defer func() {
		if err := r.clearRelease(ctx, unit); err != nil {
			r.warn(step.Release, err)
		}
	}()
	if r.new.ReleaseSec == 0 {
		return nil
	}
	text, err := r.store.ReleaseUnit(r.new.Number)
	if err != nil {
		return err
	}
	if err := writeUnit(r.Layout.UnitFile(unit), ownUnit(text)); err != nil {
		return err
	}
	// systemd may still have the unit of an earlier generation in memory.
	if u, err := r.unit(ctx, unit); err != nil {
		return err
	} else if u.Load == "loaded" && u.Source != units.SourcePath(r.app, r.new.Number) {
		if err := r.Systemd.Reload(ctx); err != nil {
			return err
		}
	}
	r.say(Info, step.Release, "running the release command")
	result, err := r.Systemd.Start(ctx, unit)
	if err := errors.Join(ctx.Err(), err); err != nil {
		return err
	}
	u, err := r.unit(ctx, unit)
	if err != nil {
		return err
	}
	if u.Load == "loaded" && u.Source != units.SourcePath(r.app, r.new.Number) {
		return &problem.Problem{Path: u.Fragment, Text: "stands in the way of the release command: what it says was run instead", Remedy: "systemctl revert " + unit}
	}
	return r.released(result, u)
}

// awaitRelease waits until no release command of the app runs any more, and has systemd
// forget how it ended.
func (r *rollout) awaitRelease(ctx context.Context, unit string) error {
	for said := false; ; said = true {
		u, err := r.unit(ctx, unit)
		if err != nil {
			return err
		}
		if !running(u) {
			return r.end(ctx, []string{unit}, r.stopTime())
		}
		if !said {
			r.say(Warning, step.Release, "waiting for the end of the release command that an earlier run has begun")
		}
		if wait(ctx, releaseTick); ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// running reports whether the unit of a release command has not ended. One that has gone
// well is active, but has no process.
func running(u systemd.Unit) bool { return u.Live() && (u.Active != "active" || u.Job != 0) }

// released judges a release command that has ended. Its unit stays active if it went
// well, so that this is also seen when the end of the job was not.
func (r *rollout) released(result string, u systemd.Unit) error {
	switch {
	case u.Active == "active":
		return nil
	case u.Result == "timeout":
		return &Failure{u.Name, fmt.Sprintf("had not ended after %d s, and was stopped", r.new.ReleaseSec)}
	case result == "canceled":
		return &notStarted{&Failure{u.Name, "was stopped by another job before it had ended"}}
	}
	return started(result, nil, u)
}

// clearRelease stops what runs of a release command, and removes its unit.
func (m *Machine) clearRelease(ctx context.Context, unit string) error {
	err := m.end(ctx, []string{unit}, stopGrace+releaseStop)
	if err != nil {
		return err
	}
	if err := os.Remove(m.Layout.UnitFile(unit)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// releaseStop is the longest that the unit of a release command may take to stop:
// SYSTEMD_TIMEOUT_STOP_SEC is at most an hour.
const releaseStop = time.Hour

// forgetRelease removes the unit of a release command that a killed run has begun, if
// that has ended.
func (m *Machine) forgetRelease(ctx context.Context, app string) error {
	unit := units.ReleaseService(app)
	if !m.releaseLeft(app) {
		return nil
	}
	if u, err := m.unit(ctx, unit); err != nil || running(u) {
		return err
	}
	return m.clearRelease(ctx, unit)
}

// releaseLeft reports whether a killed run has left the unit of a release command.
func (m *Machine) releaseLeft(app string) bool {
	_, err := os.Lstat(m.Layout.UnitFile(units.ReleaseService(app)))
	return err == nil
}

// unreleased ends a rollout whose release command has failed. Nothing was touched.
func (r *rollout) unreleased(ctx context.Context, cause error) error {
	undo, began := context.WithoutCancel(ctx), r.began
	if stopping, err := r.Systemd.Stopping(undo); err == nil && stopping {
		return cause
	}
	r.open()
	r.began, r.receipt.Started = began, began
	r.receipt.Seconds = time.Since(began).Seconds()
	r.receipt.Traffic, r.receipt.TrafficReason, r.receipt.Counts = "", "", nil
	r.tcp = r.old != nil && (r.old.Port != 0 || len(r.old.Ports) > 0)
	serves := r.serves(undo, r.old, r.was, still)
	interrupted := ctx.Err() != nil
	var wrong error
	if !interrupted {
		wrong = r.record(cause)
	}
	if err := errors.Join(wrong, r.store.Prune()); err != nil {
		r.warn(step.Release, err)
	}
	if interrupted {
		return told(fmt.Sprintf("the rollout was interrupted; %s", serves), "to begin anew: "+r.again())
	}
	return r.failed(cause, serves)
}

// bootLeaves says why a boot does not roll out what an .env asks for: it runs no release
// command, and nothing is served whose release command has not succeeded. It is nil if
// there is no such reason.
func (m *Machine) bootLeaves(spec *units.Spec) *problem.Problem {
	if spec.Plan.ReleaseSec == 0 {
		return nil
	}
	return &problem.Problem{Text: "what the .env asks for has a release command, which a boot does not run", Remedy: "to roll it out: " + m.again(spec.App)}
}
