package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"app-rollout/rollout-helper/follow"
	"app-rollout/rollout-helper/journal"
	"app-rollout/rollout-helper/ports"
	"app-rollout/rollout-helper/rollout"
	"app-rollout/units"
	"app-rollout/units/problem"
	"app-rollout/units/step"
)

func swapCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:      "swap",
		Category:  "For the services",
		Usage:     "replace what runs by what the .env files ask for",
		ArgsUsage: "[APP]",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "boot", Usage: "take over what the boot has started, then roll out what has changed"},
			&cli.BoolFlag{Name: "rollback", Usage: "go back to the generation before, and hold the app there"},
		},
		Action: func(c *cli.Context) error {
			names, err := appNames(c, 0, 1)
			if err != nil {
				return err
			}
			if c.Bool("rollback") && (len(names) == 0 || c.Bool("boot")) {
				return usageError{errors.New("swap --rollback takes an APP, and no --boot")}
			}
			m, done, err := machine(std)
			if err != nil {
				return err
			}
			defer done()
			if stopping, err := m.Systemd.Stopping(c.Context); err != nil || stopping {
				return err
			}
			renewPorts(m)
			switch {
			case c.Bool("boot"):
				err = forAll(c.Context, m, names, m.Boot)
			case c.Bool("rollback"):
				err = forAll(c.Context, m, names, m.Rollback)
			case len(names) == 1:
				err = forAll(c.Context, m, names, m.Swap)
			default:
				err = deployAll(c.Context, m)
			}
			if own := journal.Service(); err == nil && own != "" {
				// A recovery that failed has nothing to put right any more. The run
				// went well, whatever becomes of that.
				_ = m.Systemd.ResetFailed(c.Context, follow.Recovery(own))
			}
			return err
		},
	}
}

// renewPorts puts this version's programs in the place of those that another version
// of the package shares the ports by. If it cannot, those go on working.
func renewPorts(m *rollout.Machine) {
	renewed, err := ports.Renew(m.Layout.Path(units.BPFDir), units.SliceGroup)
	switch {
	case err != nil:
		m.Report(rollout.Event{Level: rollout.Warning, Text: fmt.Sprintf("the programs that share the ports stay those of another version of this package: %v", err)})
	case renewed:
		m.Report(rollout.Event{Text: "the programs that share the ports are now this version's"})
	}
}

// deployAll rolls out every app, and once more those that have been changed, or
// have come, while the run for all was under way.
func deployAll(ctx context.Context, m *rollout.Machine) error {
	err := forAll(ctx, m, nil, m.Deploy)
	changed, e := m.Changed()
	if e != nil || len(changed) == 0 || ctx.Err() != nil {
		return cmp.Or(err, e)
	}
	return cmp.Or(forAll(ctx, m, changed, m.Deploy), err)
}

// forAll does the same for the named apps, or for all there are, and reports
// in the order of their names. One that fails stops no other.
//
// The last report is the service's status text for as long as nothing is
// started again, so it is the one that tells what went wrong.
func forAll(ctx context.Context, m *rollout.Machine, names []string, do func(context.Context, string) error) error {
	fine := true
	if len(names) == 0 {
		apps, problems, err := m.Apps()
		if err != nil {
			return err
		}
		for _, p := range problems {
			fine = false
			m.Report(rollout.Event{Text: p.What(), Remedy: p.Remedy, Level: rollout.Failed})
		}
		names = apps
	} else if err := known(m, names); err != nil {
		return err
	}
	if err := each(ctx, m, names, do); err != nil || fine {
		return err
	}
	return errReported
}

// each is forAll for apps that there are.
func each(ctx context.Context, m *rollout.Machine, names []string, do func(context.Context, string) error) error {
	var failed []string
	for _, r := range m.Each(ctx, names, do) {
		if r.Err == nil {
			continue
		}
		failed = append(failed, r.App)
		for _, err := range problem.Each(r.Err) {
			m.Report(failure(r.App, err))
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
