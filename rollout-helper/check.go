package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"app-rollout/rollout-helper/ports"
	"app-rollout/units"
)

func checkCommand() *cli.Command {
	return &cli.Command{
		Name:      "check",
		Usage:     "say what is wrong, or will surprise, in the apps' .env files",
		ArgsUsage: "[APP…]",
		Action: func(c *cli.Context) error {
			names, err := appNames(c, 0, many)
			if err != nil {
				return err
			}
			return check(units.Layout{}, names)
		},
	}
}

func check(l units.Layout, names []string) error {
	wrong := 0
	if len(names) == 0 {
		apps, problems, err := units.AppNames(l)
		if err != nil {
			return err
		}
		for _, p := range problems {
			fmt.Println(p)
			wrong++
		}
		names = apps
	}
	shares := false
	for _, name := range names {
		spec, err := l.Read(name)
		if err != nil {
			for _, e := range each(err) {
				fmt.Println(e)
				wrong++
			}
			continue
		}
		for _, w := range spec.Warnings {
			fmt.Println("warning:", w)
		}
		shares = shares || spec.Plan.ReusePort
	}
	if shares {
		if err := ports.Pinned(l.Path(units.BPFDir)); err != nil {
			fmt.Printf("warning: instances share a port only if the app asks for SO_REUSEPORT itself: %v; see: systemctl status app-rollout-ports.service\n", err)
		}
	}
	if wrong > 0 {
		return errReported
	}
	return nil
}

// each takes joined errors apart.
func each(err error) []error {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		return joined.Unwrap()
	}
	return []error{err}
}
