package main

import "github.com/urfave/cli/v2"

func rollbackCommand() *cli.Command {
	return &cli.Command{
		Name:      "rollback",
		Usage:     "roll an app back to its previous generation, and hold it there",
		ArgsUsage: "APP",
		Action: func(c *cli.Context) error {
			names, err := appNames(c, 1, 1)
			if err != nil {
				return err
			}
			m, done, err := machine()
			if err != nil {
				return err
			}
			defer done()
			return forAll(c.Context, m, names, m.Rollback)
		},
	}
}
