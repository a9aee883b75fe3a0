package command

import (
	"errors"
	"slices"

	"github.com/urfave/cli/v2"
)

func recoverCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:      "recover",
		Category:  "For the services",
		Usage:     "put right what a killed run has left",
		ArgsUsage: "[APP]",
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 {
				return usageError{errors.New("recover takes one APP, or none for all")}
			}
			m, done, err := machine(std)
			if err != nil {
				return err
			}
			defer done()
			// The run has reported wrong names, so they are not reported again.
			apps, _, err := m.Apps()
			if err != nil {
				return err
			}
			if c.Args().Present() {
				apps = slices.DeleteFunc(apps, func(app string) bool { return app != c.Args().First() })
			}
			return each(c.Context, m, apps, m.Recover)
		},
	}
}
