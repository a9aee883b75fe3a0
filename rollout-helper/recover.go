package main

import "github.com/urfave/cli/v2"

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
			return forAll(c.Context, m, names, "run", m.Recover)
		},
	}
}
