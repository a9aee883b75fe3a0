package command

import (
	"github.com/urfave/cli/v2"

	"app-rollout/rollout-helper/rollout"
)

// restartCommand lets services restart the apps, as run does.
func restartCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:      "restart",
		Usage:     "replace the instances of apps by new ones of the same generation, and follow the restart",
		ArgsUsage: "APP…",
		Action: changes(std, 1, many, func(_ *cli.Context, m *rollout.Machine, names []string) error {
			return start(m, services("app-rollout-restart@", names), names, std)
		}),
	}
}
