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
		Action: changes(std, 0, many, func(_ *cli.Context, m *rollout.Machine, names []string) error {
			if len(names) == 0 {
				names, _, err := m.Apps()
				if err != nil {
					return err
				}
				return start(m, []string{"app-rollout.service"}, names, std)
			}
			return start(m, services("app-rollout@", names), names, std)
		}),
	}
}

// services are the services of a template for these apps.
func services(template string, apps []string) (units []string) {
	for _, app := range apps {
		units = append(units, template+app+".service")
	}
	return units
}

// start starts services, and shows to a person what they do with the apps.
func start(m *rollout.Machine, services, apps []string, std streams) error {
	view := follow.NewView(std.out, std.err, see(m.Layout, m.Systemd), apps)
	failed, err := follow.All(m.Systemd, services, view)
	if err == nil && failed {
		return errReported
	}
	return err
}
