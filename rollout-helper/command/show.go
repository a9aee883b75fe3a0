package command

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/urfave/cli/v2"

	"app-rollout/rollout-helper/rollout"
	"app-rollout/rollout-helper/screen"
	"app-rollout/rollout-helper/status"
	"app-rollout/units"
	"app-rollout/units/store"
)

func showCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:      "show",
		Usage:     "print what a run of an app would do now, and the unit that it would write; change nothing",
		ArgsUsage: "APP",
		Action: looks(1, 1, func(c *cli.Context, e status.Eyes, names []string) error {
			return show(c.Context, std.out, e, names[0])
		}),
	}
}

// show prints comments and a unit, and the unit of the release command if there is one.
func show(ctx context.Context, s *screen.Screen, e status.Eyes, app string) error {
	p, err := e.Plan(ctx, app)
	if errors.Is(err, fs.ErrPermission) {
		// Everybody who can read the .env may see the unit that it makes.
		spec, e := e.Layout.Read(app)
		if e != nil {
			return explain(e)
		}
		comment(s, "What a run would do now: "+explain(err).Error())
		printUnit(s, spec, 0)
		return nil
	}
	if err != nil {
		return explain(err)
	}
	for _, line := range foretell(store.Of(e.Layout, app), app, p) {
		comment(s, line)
	}
	if p.Spec != nil {
		printUnit(s, p.Spec, p.Generation)
	}
	return nil
}

func printUnit(s *screen.Screen, spec *units.Spec, number int) {
	comment(s, spec.Plan.Unit(spec.App))
	dir := units.GenerationDir(spec.App, number)
	s.Printf("%s", spec.Unit(dir))
	if release := spec.ReleaseUnit(dir); release != "" {
		s.Println()
		comment(s, units.ReleaseService(spec.App))
		s.Printf("%s", release)
	}
}

// comment prints a comment of a unit.
func comment(s *screen.Screen, text string) {
	for _, row := range s.Rows(text, len("# ")) {
		s.Println(s.Paint(screen.Dim, "# "+row))
	}
}

// foretell prints what a run would do, and why.
func foretell(disk store.Store, app string, p *rollout.Plan) []string {
	var lines []string
	if len(p.Left) > 0 {
		lines = append(lines, "First it would stop "+list(p.Left)+", which an unfinished run has left")
	}
	if p.Spec == nil {
		if len(p.Stop) == 0 {
			return append(lines, "A run would do nothing: "+p.Why(disk)+", and nothing runs")
		}
		return append(lines, "A run would stop "+list(p.Stop)+": "+p.Why(disk))
	}
	did := fmt.Sprintf("A run of %s would roll out generation %d: ", app, p.Generation)
	if p.Spec.Plan.ReleaseSec > 0 && len(p.Keep) == 0 {
		did += "run its release command, "
	}
	switch {
	case p.InPlace:
		did += "restart " + list(p.Start)
	case len(p.Start) == 0:
		did += "stop " + list(p.Stop) + ", and keep " + list(p.Keep)
	default:
		did += "start " + list(p.Start)
		if len(p.Keep) > 0 {
			did += ", and keep " + list(p.Keep)
		}
		if len(p.Stop) > 0 && !p.Listens() {
			did += ", and stop " + list(p.Stop) + " when they are ready"
		} else if len(p.Stop) > 0 {
			did += fmt.Sprintf(", shift all connections to them when they are ready, drain %s for at most %d s, and stop them", list(p.Stop), p.Drain())
		}
	}
	lines = append(lines, did, "Why: "+p.Why(disk))
	if p.Held() {
		lines = append(lines, fmt.Sprintf("A run for all apps would leave it alone: it is held on generation %d, which was rolled back to", p.Current.Number))
	}
	return lines
}

// list names instances as systemctl takes them.
func list(all []units.Instance) string {
	names := make([]string, len(all))
	for n, i := range all {
		names[n] = strings.TrimSuffix(i.Unit(), ".service")
	}
	return strings.Join(names, " ")
}
