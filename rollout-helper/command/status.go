package command

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"app-rollout/rollout-helper/ports"
	"app-rollout/rollout-helper/rollout"
	"app-rollout/rollout-helper/screen"
	"app-rollout/rollout-helper/status"
	"app-rollout/units/problem"
)

func statusCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:      "status",
		Usage:     "show how the apps stand",
		ArgsUsage: "[APP…]",
		Flags:     []cli.Flag{jsonFlag("print one JSON document, as app-rollout(1) describes it")},
		Action: looks(0, many, func(c *cli.Context, e status.Eyes, names []string) error {
			if len(names) == 0 {
				apps, _, err := e.Apps()
				if err != nil {
					return err
				}
				e = ofAll(e, apps)
			}
			report, err := e.Report(c.Context, names)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(std.out, report)
			}
			printReport(std.out, report)
			return nil
		}),
	}
}

func printReport(s *screen.Screen, r *status.Report) {
	if len(r.Apps) == 0 {
		s.Say("There are no apps: put an .env, or a link to one, into /etc/app-rollout, then: app-rollout run")
	}
	for i, a := range r.Apps {
		if i > 0 {
			s.Println()
		}
		printApp(s, a)
	}
	notes := machineNotes(r)
	if len(notes) > 0 && len(r.Apps) > 0 {
		s.Println()
	}
	for _, n := range notes {
		s.Say(s.Paint(screen.Yellow, n.Error()))
	}
}

// machineNotes are what a person is to know of the machine as a whole.
func machineNotes(r *status.Report) []problem.Problem {
	m := r.Machine
	notes := slices.Clone(m.Problems)
	// The first instance starts the service that shares the ports.
	if slices.ContainsFunc(r.Apps, func(a status.App) bool { return a.State == "up" || a.State == "degraded" }) {
		if m.PortSharing == "off" {
			notes = append(notes, problem.Problem{Text: "port sharing is off (" + m.PortSharingWhy + "): an app must set SO_REUSEPORT itself", Remedy: m.PortSharingRemedy})
		}
		if m.PortSharingBuild == string(ports.Older) {
			notes = append(notes, problem.Problem{Text: "the programs that share the ports are of another version of this package: the next rollout replaces them"})
		}
		if !m.Migrates {
			notes = append(notes, problem.Problem{Text: "net.ipv4.tcp_migrate_req is off: a stopping instance loses what waits in its queue, unless traffic is steered", Remedy: m.MigratesRemedy})
		}
	}
	for _, h := range m.Hidden {
		notes = append(notes, problem.Problem{Text: "not seen: " + h.What + ": " + h.Problem.What(), Remedy: h.Remedy})
	}
	return notes
}

func printApp(s *screen.Screen, a status.App) {
	s.Say(headline(s, a))
	rows := [][]screen.Cell{}
	row := func(name, text, color string) {
		rows = append(rows, []screen.Cell{{Text: name + ":", Color: screen.Dim}, {Text: text, Color: color}})
	}
	if g := a.Generation; g != nil {
		row("generation", fmt.Sprintf("%d, ready since %s", g.Number, s.When(g.Ready)), "")
	} else if !a.HidesStore() {
		row("generation", "none has been ready yet", "")
	}
	if a.Asked.State != status.Hidden {
		text, color := asks(a)
		row(".env", text, color)
	}
	for _, p := range a.Shadows {
		row("unit", p.Error(), screen.Red)
	}
	if a.Held {
		row("held", "a run for all apps leaves it alone, since it was rolled back; app-rollout run "+a.Name+" ends that", screen.Yellow)
	}
	if a.Last != nil {
		text, color := lastRollout(a.Last)
		row("last rollout", text, color)
	}
	if u := a.UnderWay; u != nil {
		text := u.Service + " since " + s.When(u.Since)
		if says, ok := rollout.About(u.Says, a.Name); ok {
			text += ": " + says
		} else if u.Says != "" {
			text += ": " + u.Says
		}
		row("under way", text, screen.Bold)
	}
	if a.Wrapper != nil {
		row("stopping", a.Wrapper.Error(), screen.Yellow)
	}
	for _, h := range a.Hidden {
		row("not seen", h.String(), screen.Yellow)
	}
	s.Table("  ", rows)
	if len(a.Instances) > 0 {
		s.Table("  ", instanceRows(s, a))
	}
}

func headline(s *screen.Screen, a status.App) string {
	color := map[string]string{"up": screen.Green, "degraded": screen.Yellow, "down": screen.Red}[a.State]
	text := s.Paint(screen.Bold, a.Name) + ": " + s.Paint(color, a.Says())
	if s.TTY {
		text = s.Paint(color, map[bool]string{true: "●", false: "○"}[a.State != "stopped"]) + " " + text
	}
	if a.Port != 0 {
		text += fmt.Sprintf(", port %d", a.Port)
	}
	if a.Generation != nil {
		text += fmt.Sprintf(", mode %d", a.Mode)
	}
	return text
}

func instanceRows(s *screen.Screen, a status.App) [][]screen.Cell {
	rows := [][]screen.Cell{
		screen.Row(screen.Dim, "UNIT", "STATE", "GENERATION", "PID", "SINCE", "RESTARTS", "MEMORY"),
	}
	if a.Listens() {
		rows[0] = append(rows[0], screen.Row(screen.Dim, "CONNECTIONS", "SHARE")...)
		rows[0][7].Short = "CONNS"
	}
	rows[0][2].Short = "GEN"
	for _, i := range a.Instances {
		color, restarts, pid, share, generation := screen.Green, "", "-", "-", "-"
		if !i.Up() {
			color = screen.Yellow
		}
		if i.Active == "failed" || i.Sub == "auto-restart" {
			color = screen.Red
		}
		if i.Restarts > 0 {
			restarts = screen.Yellow
		}
		if i.PID != 0 {
			pid = fmt.Sprint(i.PID)
		}
		if i.Share != nil {
			share = fmt.Sprintf("%.0f %%", *i.Share)
		}
		if i.Generation != 0 {
			generation = fmt.Sprint(i.Generation)
		}
		row := screen.Row("", strings.TrimSuffix(i.Unit, ".service"), i.Active+" ("+i.Sub+")", generation, pid, s.Since(i.Since),
			fmt.Sprint(i.Restarts), screen.Size(i.Memory))
		if a.Listens() {
			row = append(row, screen.Row("", fmt.Sprint(i.Connections), share)...)
		}
		row[1].Color, row[1].Short, row[5].Color = color, i.Sub, restarts
		rows = append(rows, row)
	}
	return rows
}

// asks prints how the .env of an app differs from what runs.
func asks(a status.App) (text, color string) {
	changed := strings.Join(append(a.Asked.Changed[:len(a.Asked.Changed):len(a.Asked.Changed)], a.Asked.Otherwise...), ", ")
	switch a.Asked.State {
	case status.Same:
		return "asks for what runs", ""
	case status.Gone:
		if a.State == "stopped" {
			return "gone, and the app is stopped", ""
		}
		return "gone: the next run stops the app, if it still runs", screen.Yellow
	case status.Invalid:
		return "invalid: " + lines(a.Asked.Why), screen.Red
	case status.Rejected:
		text = fmt.Sprintf("was rejected as generation %d", a.Asked.Generation)
		if changed != "" {
			text += " (changed: " + changed + ")"
		}
		if a.Last == nil || a.Last.Generation != a.Asked.Generation {
			text += ": " + lines(a.Asked.Why)
		}
		text += "; mend it, then: app-rollout run " + a.Name
		if a.Held {
			text += ", which ends the hold"
		}
		return text, screen.Red
	case status.Refused:
		return "changed: " + changed + "; a run refuses it: " + lines(a.Asked.Why), screen.Red
	case status.Pending:
		if changed == "" {
			return "not rolled out yet; next: app-rollout run " + a.Name, screen.Yellow
		}
		if a.Held {
			return "changed: " + changed + "; not rolled out while it is held", screen.Yellow
		}
		return "changed: " + changed + "; the next run rolls it out", screen.Yellow
	}
	return a.Asked.State, ""
}

// lines puts several problems on one line.
func lines(problems []problem.Problem) string {
	text := ""
	for _, p := range problems {
		text = problem.Join(text, p.Error())
	}
	return text
}

func lastRollout(r *status.Rollout) (text, color string) {
	if r.Result == "failed" {
		return fmt.Sprintf("generation %d failed after %.1f s: %s", r.Generation, r.Seconds, r.Why()), screen.Red
	}
	text = fmt.Sprintf("%s in %.1f s%s", r.Result, r.Seconds, r.Told())
	if r.Counts != nil && r.Cut > 0 {
		color = screen.Yellow
	}
	return text, color
}
