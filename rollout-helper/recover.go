package main

import (
	"os"

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
			// What the service says of its run, systemd.exec(5): one that went
			// well has put everything right itself.
			if os.Getenv("SERVICE_RESULT") == "success" {
				return nil
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
