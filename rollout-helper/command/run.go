package command

import (
	"github.com/urfave/cli/v2"

	"app-rollout/rollout-helper/follow"
	"app-rollout/rollout-helper/rollout"
)

func runCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:      "run",
		Usage:     "roll out all apps, or the named ones, and follow the run",
		ArgsUsage: "[APP…]",
		Action: func(c *cli.Context) error {
			names, err := appNames(c, 0, many)
			if err != nil {
				return err
			}
			m, done, err := machine(std)
			if err != nil {
				return err
			}
			defer done()
			if err := known(m, names); err != nil {
				return err
			}
			services := []string{"app-rollout.service"}
			if len(names) > 0 {
				services = nil
				for _, name := range names {
					services = append(services, "app-rollout@"+name+".service")
				}
			} else if names, _, err = m.Apps(); err != nil {
				return err
			}
			return start(m, services, names, std)
		},
	}
}

// start starts services, and shows to a person what they do with the apps.
func start(m *rollout.Machine, services, apps []string, std streams) error {
	view := follow.NewView(std.out, std.err, see(m.Systemd), apps)
	failed, err := follow.All(m.Systemd, services, view)
	if err == nil && failed {
		return errReported
	}
	return err
}
