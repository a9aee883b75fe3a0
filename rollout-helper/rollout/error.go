package rollout

import (
	"context"
	"errors"

	"app-rollout/units/problem"
	"app-rollout/units/store"
)

// RunError is why a run did not do what it was asked to do for an app. Its remedy
// leads to the end: it names the command that does it then.
type RunError struct {
	problem.Problem
	Unit   string // the instance that is to blame; "" if none is
	holder string // the other app that has the PORT; "" if none has
	cause  error
}

// AsProblem is the problem: see problem.Of.
func (e *RunError) AsProblem() *problem.Problem { return &e.Problem }

func (e *RunError) Unwrap() error { return e.cause }

// rerun is what a person types to have an app rolled out. To name an app that is held
// ends the hold, so that is said.
func rerun(app string, current *store.Generation) string {
	if current.Held() {
		return "app-rollout run " + app + ", which ends the hold"
	}
	return "app-rollout run " + app
}

// again is rerun for an app as it stands on disk.
func (m *Machine) again(app string) string {
	current, err := store.Of(m.Layout, app).Current()
	if err != nil {
		current = nil // what cannot be read is no hold
	}
	return rerun(app, current)
}

// told is a RunError whose remedy is complete.
func told(text, remedy string) *RunError {
	return &RunError{Problem: problem.Problem{Text: text, Remedy: remedy}}
}

// complete makes of an error one RunError for each problem in it. The remedy of the last
// one ends in again, the command that has the same done once more, unless it is
// complete already.
func complete(err error, again string) error {
	all := problem.Each(err)
	for i, one := range all {
		var already *RunError
		if errors.As(one, &already) {
			all[i] = already
			continue
		}
		e := runError(one)
		switch {
		case i < len(all)-1:
		case errors.Is(one, context.Canceled):
			e.Text, e.Remedy = "the run was interrupted", "to begin anew: "+again
		default:
			e.Remedy = problem.Join(e.Remedy, "when that is mended: "+again)
		}
		all[i] = e
	}
	return errors.Join(all...)
}

// runError is a RunError whose remedy is not complete yet.
func runError(cause error) *RunError {
	e := &RunError{Problem: *problem.Of(cause), cause: cause}
	var did *Failure
	if errors.As(cause, &did) {
		e.Unit = did.Unit
	}
	return e
}
