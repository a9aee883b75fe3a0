package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"app-rollout/rollout-helper/follow"
	"app-rollout/rollout-helper/journal"
	"app-rollout/rollout-helper/ports"
	"app-rollout/rollout-helper/rollout"
	"app-rollout/units"
)

func swapCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:      "swap",
		Category:  "For the services",
		Usage:     "replace what runs by what the .env files ask for",
		ArgsUsage: "[APP]",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "boot", Usage: "take over what the boot has started, then roll out what has changed or is new"},
			&cli.BoolFlag{Name: "rollback", Usage: "go back to the generation before, and hold the app there"},
			&cli.BoolFlag{Name: "restart", Usage: "replace the instances by new ones of the same generation"},
		},
		Action: func(c *cli.Context) error {
			names, err := appNames(c, 0, 1)
			if err != nil {
				return err
			}
			if c.NumFlags() > 1 {
				return usageError{errors.New("swap takes one of --boot, --rollback and --restart")}
			}
			if len(names) == 0 && (c.Bool("rollback") || c.Bool("restart")) {
				return usageError{errors.New("swap --rollback and --restart take an APP")}
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
				err = bootAll(c.Context, m, names)
			case c.Bool("rollback"):
				err = forAll(c.Context, m, names, m.Rollback)
			case c.Bool("restart"):
				err = forAll(c.Context, m, names, m.Restart)
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

// bootAll boots the named apps, or all there are: first those that have been ready.
func bootAll(ctx context.Context, m *rollout.Machine, names []string) error {
	if len(names) > 0 {
		return forAll(ctx, m, names, m.Boot)
	}
	apps, fine, err := allApps(m)
	if err != nil {
		return err
	}
	if err := each(ctx, m, m.ReadyFirst(apps), m.Boot); err != nil || fine {
		return err
	}
	return errReported
}

// deployAll rolls out every app, and once more those that have been changed, or
// have come, while the run for all was under way.
func deployAll(ctx context.Context, m *rollout.Machine) error {
	began := time.Now()
	err := forAll(ctx, m, nil, m.Deploy)
	changed, e := m.Changed(ctx)
	if err = cmp.Or(err, e); e == nil && len(changed) > 0 && ctx.Err() == nil {
		err = cmp.Or(forAll(ctx, m, changed, m.Deploy), err)
	}
	if err != nil || ctx.Err() != nil {
		return err
	}
	return summarize(m, time.Since(began))
}
