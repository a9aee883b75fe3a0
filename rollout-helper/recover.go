package main

import (
	"slices"

	"github.com/urfave/cli/v2"
)

func recoverCommand() *cli.Command {
	return &cli.Command{
		Name:      "recover",
		Category:  "For the services",
		Usage:     "put right what a run has left that was killed",
		ArgsUsage: "[APP]",
		Action: func(c *cli.Context) error {
			names, err := appNames(c, 0, 1)
			if err != nil {
				return err
			}
			m, done, err := machine()
			if err != nil {
				return err
			}
			defer done()
			// What is wrong with names the run has said.
			apps, _, err := m.Apps()
			if err != nil {
				return err
			}
			if len(names) > 0 {
				apps = slices.DeleteFunc(apps, func(app string) bool { return app != names[0] })
			}
			return each(c.Context, m, apps, "run", m.Recover)
		},
	}
}
