package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"app-rollout/units/store"

	"github.com/urfave/cli/v2"
)

func historyCommand() *cli.Command {
	return &cli.Command{
		Name:      "history",
		Usage:     "list the generations of an app that are kept, and how their rollouts went",
		ArgsUsage: "APP",
		Action: func(c *cli.Context) error {
			names, err := appNames(c, 1, 1)
			if err != nil {
				return err
			}
			e, done := eyes()
			defer done()
			if err := known(e, names); err != nil {
				return err
			}
			return history(newScreen(os.Stdout), store.Of(e.Layout, names[0]))
		},
	}
}

func history(s *screen, disk store.Store) error {
	numbers, err := disk.Generations()
	if err != nil {
		return explain(err)
	}
	current, err := disk.Current()
	if err != nil {
		return explain(err)
	}
	if len(numbers) == 0 {
		s.println("Nothing has been rolled out yet.")
		return nil
	}
	rows := [][]cell{{}}
	for _, h := range []string{"GENERATION", "WHEN", "NODES", "RESULT", "TOOK", "TRAFFIC", "DRAINED", "CUT", "MIGRATED", "CHANGED"} {
		rows[0] = append(rows[0], cell{h, dim})
	}
	var before *store.Generation
	var reasons []string
	for _, n := range numbers {
		g, err := disk.Generation(n)
		if err != nil {
			reasons = append(reasons, fmt.Sprintf("generation %d: %v", n, err))
			continue
		}
		result, color, took, rung, drained, cut, migrated, steps := "not ready yet", yellow, "-", "-", "-", "-", "-", ""
		if r := g.Rollout; r != nil {
			result, rung = r.Result, r.Rung
			took = fmt.Sprintf("%.1f s", r.Seconds)
			drained, cut, migrated, steps = fmt.Sprint(r.Drained), fmt.Sprint(r.Cut), fmt.Sprint(r.Migrated), r.Took()
			if color = ""; r.Result == "failed" {
				color = red
				reasons = append(reasons, fmt.Sprintf("generation %d failed: %s", n, r.Reason))
			}
		}
		if current != nil && n == current.Number {
			result, color = result+" (current)", green
		}
		rows = append(rows, []cell{
			{fmt.Sprint(n), ""}, {g.Created.Local().Format(time.DateTime), ""}, {fmt.Sprint(g.Nodes), ""},
			{result, color}, {took, ""}, {rung, ""}, {drained, ""}, {cut, ""}, {migrated, ""}, {changed(disk, before, g), ""},
		})
		if steps != "" {
			rows = append(rows, []cell{{"  " + steps, dim}})
		}
		// What failed changed nothing: the next one is compared with what served.
		if g.Ready {
			before = g
		}
	}
	s.table("", rows)
	for _, r := range reasons {
		s.println(s.paint(red, strings.ReplaceAll(r, "\n", "; ")))
	}
	return nil
}

// changed names what a generation has otherwise than the one that served
// before it.
func changed(disk store.Store, before, g *store.Generation) string {
	if g.CopyOf > 0 {
		return fmt.Sprintf("rolled back to %d", g.CopyOf)
	}
	if before == nil {
		return "-"
	}
	envBefore, err := disk.Env(before.Number)
	if err != nil {
		return "?"
	}
	env, err := disk.Env(g.Number)
	if err != nil {
		return "?"
	}
	changes := g.Since(before, env, envBefore)
	if changes.None() {
		return "nothing"
	}
	return strings.Join(changes.Names(), ", ")
}
