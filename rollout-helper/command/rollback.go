package command

import "github.com/urfave/cli/v2"

// rollbackCommand lets a service roll back, as run does. So a rollback has the
// service's sandbox and its recovery, and outlives the terminal.
func rollbackCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:      "rollback",
		Usage:     "roll an app back to the generation before, hold it there, and follow the rollback",
		ArgsUsage: "APP",
		Action: func(c *cli.Context) error {
			names, err := appNames(c, 1, 1)
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
			return start(m, []string{"app-rollout-rollback@" + names[0] + ".service"}, names, std)
		},
	}
}
