package command

import (
	"github.com/urfave/cli/v2"

	"app-rollout/rollout-helper/rollout"
)

// rollbackCommand lets a service roll back, as run does. So a rollback has the
// service's sandbox and its recovery, and outlives the terminal.
func rollbackCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:      "rollback",
		Usage:     "roll an app back to the generation before, hold it there, and follow the rollback",
		ArgsUsage: "APP",
		Action: changes(std, 1, 1, func(_ *cli.Context, m *rollout.Machine, names []string) error {
			return start(m, services("app-rollout-rollback@", names), names, std)
		}),
	}
}
