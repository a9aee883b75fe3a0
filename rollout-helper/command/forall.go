package command

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"app-rollout/rollout-helper/rollout"
	"app-rollout/units/problem"
	"app-rollout/units/step"
)

// forAll does the same for the named apps, or for all there are, and reports
// in the order of their names. One that fails stops no other.
//
// The last report is the service's status text for as long as nothing is
// started again, so it is the one that tells what went wrong.
func forAll(ctx context.Context, m *rollout.Machine, names []string, do func(context.Context, string) error) error {
	fine := true
	if len(names) == 0 {
		var err error
		if names, fine, err = allApps(m); err != nil {
			return err
		}
	} else if err := known(m, names); err != nil {
		return err
	}
	if err := each(ctx, m, names, do); err != nil || fine {
		return err
	}
	return errReported
}

// allApps are the names of all apps. It reports the names that cannot be an app's, and
// then it is not fine.
func allApps(m *rollout.Machine) (apps []string, fine bool, err error) {
	apps, problems, err := m.Apps()
	for _, p := range problems {
		m.Report(rollout.Event{Text: p.What(), Remedy: p.Remedy, Level: rollout.Failed, Result: "failed"})
	}
	return apps, len(problems) == 0, err
}

// each is forAll for apps that there are.
func each(ctx context.Context, m *rollout.Machine, names []string, do func(context.Context, string) error) error {
	var failed []string
	for _, r := range m.Each(ctx, names, do) {
		if r.Err == nil {
			continue
		}
		failed = append(failed, r.App)
		for i, err := range problem.Each(r.Err) {
			e := failure(r.App, err)
			if i == 0 {
				e.Result = "failed" // once for each app, however many problems it has
			}
			m.Report(e)
		}
	}
	if len(failed) == 0 {
		return nil
	}
	if len(failed) > 1 {
		m.Report(rollout.Event{Step: step.End, Level: rollout.Failed,
			Text: fmt.Sprintf("%d of %d apps failed (%s)", len(failed), len(names), strings.Join(failed, ", ")), Remedy: "see: app-rollout status"})
	}
	return errReported
}

// failure is what is said of an app that failed: what is wrong, where, what still
// serves, and what to do.
func failure(app string, err error) rollout.Event {
	p := problem.Of(err)
	e := rollout.Event{App: app, Step: step.Failed, Text: p.What(), Remedy: p.Remedy, Level: rollout.Failed}
	var ended *rollout.RunError
	if errors.As(err, &ended) {
		e.Unit = ended.Unit
	}
	return e
}
