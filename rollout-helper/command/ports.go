package command

import (
	"github.com/urfave/cli/v2"

	"app-rollout/rollout-helper/ports"
	"app-rollout/units"
)

func portsCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:      "ports",
		Category:  "For the services",
		Usage:     "load and pin the programs that let instances share a port",
		ArgsUsage: "no arguments",
		Action: func(c *cli.Context) error {
			if _, err := appNames(c, 0, 0); err != nil {
				return err
			}
			if err := ports.SetMigrate(); err != nil {
				std.out.Printf("queued connections do not move when a listener closes: %v\n", err)
			}
			return ports.Pin(units.BPFDir, units.SliceGroup)
		},
	}
}
