package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"app-rollout/rollout-helper/status"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:      "status",
		Usage:     "show how the apps stand",
		ArgsUsage: "[APP…]",
		Flags:     []cli.Flag{jsonFlag("print one JSON document, as app-rollout(1) describes it")},
		Action: func(c *cli.Context) error {
			names, err := appNames(c, 0, many)
			if err != nil {
				return err
			}
			e, done := eyes()
			defer done()
			if err := known(e, names); err != nil {
				return err
			}
			report, err := e.Report(c.Context, names)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(report)
			}
			printReport(newScreen(os.Stdout), report)
			return nil
		},
	}
}

func jsonFlag(usage string) cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: usage, DisableDefaultText: true}
}

func printJSON(v any) error {
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	out.SetEscapeHTML(false)
	return out.Encode(v)
}

func printReport(s *screen, r *status.Report) {
	if len(r.Apps) == 0 {
		s.println("There are no apps: put an .env, or a link to one, into /etc/app-rollout, then: app-rollout run")
	}
	for i, a := range r.Apps {
		if i > 0 {
			s.println()
		}
		printApp(s, a)
	}
	// What shares the ports comes with the first instance.
	running := slices.ContainsFunc(r.Apps, func(a status.App) bool { return a.State == "up" || a.State == "degraded" })
	var notes []string
	notes = append(notes, r.Machine.Problems...)
	if running && r.Machine.PortSharing == "off" {
		notes = append(notes, "port sharing is off ("+r.Machine.PortSharingWhy+"): an app must set SO_REUSEPORT itself; see: systemctl status app-rollout-ports")
	}
	if running && !r.Machine.Migrates {
		notes = append(notes, "net.ipv4.tcp_migrate_req is off: a stopping instance loses what waits in its queue, unless traffic is steered; see: systemctl status app-rollout-ports")
	}
	for _, h := range r.Machine.Hidden {
		notes = append(notes, "not seen: "+h)
	}
	if len(notes) > 0 && len(r.Apps) > 0 {
		s.println()
	}
	for _, n := range notes {
		s.println(s.paint(yellow, n))
	}
}

func printApp(s *screen, a status.App) {
	s.println(headline(s, a))
	rows := [][]cell{}
	row := func(name, text, color string) {
		rows = append(rows, []cell{{name + ":", dim}, {text, color}})
	}
	if g := a.Generation; g != nil {
		row("generation", fmt.Sprintf("%d, ready since %s", g.Number, s.when(g.Ready)), "")
	} else if !a.HidesStore() {
		row("generation", "none has been ready yet", "")
	}
	if a.Asked.State != status.Hidden {
		text, color := asks(a)
		row(".env", text, color)
	}
	if a.Held {
		row("held", "a run for all apps leaves it alone, since it was rolled back; app-rollout run "+a.Name+" ends that", yellow)
	}
	if a.Last != nil {
		text, color := lastRollout(a.Last)
		row("last rollout", text, color)
	}
	if u := a.UnderWay; u != nil {
		text := u.Service + " since " + s.when(u.Since)
		if u.Says != "" {
			text += ": " + strings.TrimPrefix(u.Says, a.Name+": ")
		}
		row("under way", text, bold)
	}
	for _, h := range a.Hidden {
		row("not seen", h, yellow)
	}
	s.table("  ", rows)
	if len(a.Instances) > 0 {
		s.table("  ", instanceRows(s, a))
	}
}

func headline(s *screen, a status.App) string {
	color := map[string]string{"up": green, "degraded": yellow, "down": red}[a.State]
	text := s.paint(bold, a.Name) + ": " + s.paint(color, a.Says())
	if s.tty {
		text = s.paint(color, map[bool]string{true: "●", false: "○"}[a.State != "stopped"]) + " " + text
	}
	if a.Port != 0 {
		text += fmt.Sprintf(", port %d", a.Port)
	}
	if a.Generation != nil {
		text += fmt.Sprintf(", mode %d", a.Mode)
	}
	return text
}

func instanceRows(s *screen, a status.App) [][]cell {
	head := []string{"UNIT", "STATE", "GENERATION", "PID", "SINCE", "RESTARTS", "MEMORY", "CONNECTIONS", "SHARE"}
	rows := [][]cell{{}}
	for _, h := range head {
		rows[0] = append(rows[0], cell{h, dim})
	}
	for _, i := range a.Instances {
		color, restarts, pid, share, generation := green, "", "-", "-", "-"
		if !i.Up() {
			color = yellow
		}
		if i.Active == "failed" || i.Sub == "auto-restart" {
			color = red
		}
		if i.Restarts > 0 {
			restarts = yellow
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
		rows = append(rows, []cell{
			{strings.TrimSuffix(i.Unit, ".service"), ""}, {i.Active + " (" + i.Sub + ")", color}, {generation, ""}, {pid, ""}, {s.since(i.Since), ""},
			{fmt.Sprint(i.Restarts), restarts}, {size(i.Memory), ""}, {fmt.Sprint(i.Connections), ""}, {share, ""},
		})
	}
	return rows
}

// asks says what an app's .env asks for, against what runs.
func asks(a status.App) (text, color string) {
	changed := strings.Join(append(a.Asked.Changed[:len(a.Asked.Changed):len(a.Asked.Changed)], a.Asked.Otherwise...), ", ")
	switch a.Asked.State {
	case status.Same:
		return "asks for what runs", ""
	case status.Gone:
		return "gone: the next run stops the app", yellow
	case status.Invalid:
		return "invalid: " + strings.Join(a.Asked.Why, "; "), red
	case status.Rejected:
		text = fmt.Sprintf("was rejected as generation %d", a.Asked.Generation)
		if changed != "" {
			text += " (changed: " + changed + ")"
		}
		if a.Last == nil || a.Last.Generation != a.Asked.Generation {
			text += ": " + strings.Join(a.Asked.Why, "; ")
		}
		return text + "; mend it, then: app-rollout run " + a.Name, red
	case status.Pending:
		if changed == "" {
			return "not rolled out yet; next: app-rollout run " + a.Name, yellow
		}
		if a.Held {
			return "changed: " + changed + "; not rolled out while it is held", yellow
		}
		return "changed: " + changed + "; the next run rolls it out", yellow
	}
	return a.Asked.State, ""
}

func lastRollout(r *status.Rollout) (text, color string) {
	if r.Result == "failed" {
		return fmt.Sprintf("generation %d failed after %.1f s: %s", r.Generation, r.Seconds, r.Reason), red
	}
	text = fmt.Sprintf("%s in %.1f s, traffic %s%s, %s", r.Result, r.Seconds, r.Rung, because(r.RungWhy), r.Connections())
	if r.Cut > 0 {
		color = yellow
	}
	return text, color
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return " (" + why + ")"
}
