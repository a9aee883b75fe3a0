package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"app-rollout/units"
)

func showCommand() *cli.Command {
	return &cli.Command{
		Name:      "show",
		Usage:     "print the unit that a run would give an app",
		ArgsUsage: "APP",
		Action: func(c *cli.Context) error {
			names, err := appNames(c, 1, 1)
			if err != nil {
				return err
			}
			spec, err := units.Layout{}.Read(names[0])
			if err != nil {
				return err
			}
			name := units.Instance(spec.App, 0)
			if spec.Plan.Mode == 1 {
				name = units.Template(spec.App)
			}
			fmt.Printf("# %s\n%s", name, spec.Unit(units.GenerationDir(spec.App, 0)))
			return nil
		},
	}
}
