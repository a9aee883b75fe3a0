package command

import (
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"app-rollout/rollout-helper/screen"
	"app-rollout/rollout-helper/status"
	"app-rollout/units/problem"
	"app-rollout/units/store"
)

func historyCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:      "history",
		Usage:     "list the kept generations of an app, and how their rollouts went",
		ArgsUsage: "APP",
		Action: looks(1, 1, func(c *cli.Context, e status.Eyes, names []string) error {
			return history(std.out, store.Of(e.Layout, names[0]))
		}),
	}
}

func history(s *screen.Screen, disk store.Store) error {
	numbers, err := disk.Generations()
	if err != nil {
		return explain(err)
	}
	current, err := disk.Current()
	if err != nil {
		return explain(err)
	}
	if len(numbers) == 0 {
		s.Println("Nothing has been rolled out yet.")
		return nil
	}
	var rows [][]screen.Cell
	listens := false // in a kept generation
	var before *store.Generation
	var wrong []*problem.Problem
	for _, n := range numbers {
		g, err := disk.Generation(n)
		if err != nil {
			p := problem.Of(err)
			wrong = append(wrong, &problem.Problem{Text: fmt.Sprintf("generation %d: %s", n, p.What()), Remedy: p.Remedy})
			continue
		}
		result, color, took := "not ready yet", screen.Yellow, "-"
		if r := g.Rollout; r != nil {
			result, took = r.Result, fmt.Sprintf("%.1f s", r.Seconds)
			if color = ""; r.Result == "failed" {
				color = screen.Red
				wrong = append(wrong, &problem.Problem{Text: fmt.Sprintf("generation %d failed: %s", n, r.Reason), Remedy: r.Remedy})
			}
		}
		if current != nil && n == current.Number {
			result, color = result+" (current)", screen.Green
		}
		listens = listens || g.Rollout != nil && g.Rollout.Counts != nil
		row := screen.Row("", append([]string{fmt.Sprint(n), g.Created.Local().Format("2006-01-02 15:04"), fmt.Sprint(g.Nodes), result, took}, became(g.Rollout)...)...)
		row[3].Color = color
		rows = append(rows, row)
		for _, line := range below(g, changed(disk, before, g)) {
			rows = append(rows, screen.Row(screen.Dim, line))
		}
		if r := g.Restart; r != nil && r.Result == "failed" {
			wrong = append(wrong, &problem.Problem{Text: fmt.Sprintf("the restart of generation %d failed: %s", n, r.Reason), Remedy: r.Remedy})
		}
		// A failed generation changed nothing, so the next one is compared with the
		// one that served.
		if g.Ready {
			before = g
		}
	}
	head := screen.Row(screen.Dim, "GEN", "WHEN", "NODES", "RESULT", "TOOK", "TOLD", "LEFT", "REST", "CUT")
	s.Table("", telling(append([][]screen.Cell{head}, rows...), listens))
	for _, p := range wrong {
		s.Say(s.Paint(screen.Red, strings.ReplaceAll(p.Error(), "\n", "; ")))
	}
	return nil
}

// telling leaves out the columns on connections for an app that has none.
func telling(rows [][]screen.Cell, listens bool) [][]screen.Cell {
	const first = 5
	for i, row := range rows {
		if !listens && len(row) > first {
			rows[i] = row[:first]
		}
	}
	return rows
}

// became are the cells on what became of the connections.
func became(r *store.Receipt) []string {
	if r == nil || r.Counts == nil {
		return []string{"-", "-", "-", "-"}
	}
	return []string{fmt.Sprint(r.ToldToClose), fmt.Sprint(r.ByThemselves()), fmt.Sprint(r.Closed), fmt.Sprint(r.Cut)}
}

// below are the lines below the row of a generation.
func below(g *store.Generation, changed string) (lines []string) {
	add := func(text string) { lines = append(lines, "  "+text) }
	var told, took string
	if r := g.Rollout; r != nil {
		told, took = strings.Replace(r.Told(), ", ", "; ", 1), r.Took()
	}
	add("changed: " + changed + told)
	if took != "" {
		add(took)
	}
	if g.Restart != nil {
		add(restarted(g.Restart))
	}
	return lines
}

// restarted says when a generation was last restarted, and how that went.
func restarted(r *store.Receipt) string {
	return fmt.Sprintf("restarted %s: %s in %.1f s%s: %s", r.Started.Local().Format(time.DateTime), r.Result, r.Seconds, r.Told(), r.Took())
}

// changed names the differences between a generation and the one that served before
// it.
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
