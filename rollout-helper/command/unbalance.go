package command

import (
	"github.com/urfave/cli/v2"

	"app-rollout/rollout-helper/traffic"
)

func unbalanceCommand() *cli.Command {
	return &cli.Command{
		Name:      "unbalance",
		Category:  "For the services",
		Usage:     "end all balancing, before an older version of the package comes",
		ArgsUsage: "no arguments",
		Action: func(c *cli.Context) error {
			if _, err := appNames(c, 0, 0); err != nil {
				return err
			}
			return traffic.Unbalance()
		},
	}
}
