package main

import (
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"app-rollout/units"
)

func historyCommand() *cli.Command {
	return &cli.Command{
		Name:      "history",
		Usage:     "list the generations of an app that are kept",
		ArgsUsage: "APP",
		Action: func(c *cli.Context) error {
			names, err := appNames(c, 1, 1)
			if err != nil {
				return err
			}
			return history(units.Layout{}.Store(names[0]))
		},
	}
}

func history(store units.Store) error {
	numbers, err := store.Generations()
	if err != nil {
		return err
	}
	current, err := store.Current()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "GENERATION\tWHEN\tNODES\tRESULT\tTOOK\tTRAFFIC\tDRAINED\tCUT")
	for _, n := range numbers {
		g, err := store.Generation(n)
		if err != nil {
			fmt.Fprintf(w, "%d\t\t\tdamaged: %v\n", n, err)
			continue
		}
		result, took, rung, drained, cut := "not ready yet", "", "", "", ""
		if r := g.Rollout; r != nil {
			result, rung = r.Result, r.Rung
			took = fmt.Sprintf("%.1f s", r.Seconds)
			drained, cut = fmt.Sprint(r.Drained), fmt.Sprint(r.Cut)
		}
		if current != nil && n == current.Number {
			result += " (current)"
		}
		fmt.Fprintf(w, "%d\t%s\t%d\t%s\t%s\t%s\t%s\t%s\n", n, g.Created.Local().Format(time.DateTime), g.Nodes, result, took, rung, drained, cut)
	}
	return w.Flush()
}
