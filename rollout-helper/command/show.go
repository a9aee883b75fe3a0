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

// show prints comments and a unit. The output as a whole is a valid unit.
func show(ctx context.Context, s *screen.Screen, e status.Eyes, app string) error {
	f, err := e.Foresee(ctx, app)
	if errors.Is(err, fs.ErrPermission) {
		// Everybody who can read the .env may see the unit that it makes.
		spec, e := e.Layout.Read(app)
		if e != nil {
			return explain(e)
		}
		s.Println(s.Paint(screen.Dim, "# What a run would do now: "+explain(err).Error()))
		printUnit(s, spec, 0)
		return nil
	}
	if err != nil {
		return explain(err)
	}
	for _, line := range foretell(store.Of(e.Layout, app), app, f) {
		s.Println(s.Paint(screen.Dim, "# "+line))
	}
	if f.Spec != nil {
		printUnit(s, f.Spec, f.Number)
	}
	return nil
}

func printUnit(s *screen.Screen, spec *units.Spec, number int) {
	s.Println(s.Paint(screen.Dim, "# "+spec.Plan.Unit(spec.App)))
	s.Printf("%s", spec.Unit(units.GenerationDir(spec.App, number)))
}

// foretell prints what a run would do, and why.
func foretell(disk store.Store, app string, f *rollout.Foresight) []string {
	var lines []string
	if f.Spec == nil {
		if len(f.Stop) == 0 {
			return []string{"A run would do nothing: the .env is gone, and nothing runs"}
		}
		return []string{"A run would stop " + rollout.List(f.Stop) + ": the .env is gone"}
	}
	did := fmt.Sprintf("A run of %s would roll out generation %d: ", app, f.Number)
	switch {
	case f.InPlace:
		did += "restart " + rollout.List(f.Start)
	case len(f.Start) == 0:
		did += "stop " + rollout.List(f.Stop) + ", and keep " + rollout.List(f.Keep)
	default:
		did += "start " + rollout.List(f.Start)
		if len(f.Keep) > 0 {
			did += ", and keep " + rollout.List(f.Keep)
		}
		if len(f.Stop) > 0 {
			did += fmt.Sprintf(", shift all connections to them when they are ready, drain %s for at most %d s, and stop them", rollout.List(f.Stop), drain(f))
		}
	}
	lines = append(lines, did, "Why: "+reason(disk, f))
	if f.Held {
		lines = append(lines, fmt.Sprintf("A run for all apps would leave it alone: it is held on generation %d, which was rolled back to", f.Current.Number))
	}
	return lines
}

// drain is the drain time of the old instances, which their own generation says.
func drain(f *rollout.Foresight) int {
	if f.Current != nil {
		return f.Current.DrainSec
	}
	return f.Spec.Plan.DrainSec
}

func reason(disk store.Store, f *rollout.Foresight) string {
	if f.Current == nil {
		return "no generation has been ready yet"
	}
	rejected, err := disk.Rejected()
	if err == nil && rejected != nil && rejected.Digest == f.Spec.Digest() {
		return fmt.Sprintf("the .env asks for what failed as generation %d; naming the app tries it again", rejected.Number)
	}
	env, err := disk.Env(f.Current.Number)
	if err != nil {
		return "what runs cannot be compared: " + err.Error()
	}
	changes := f.Current.Pending(f.Spec, env)
	if changes.None() {
		return "nothing in the .env has changed, but each run deploys: the code may have"
	}
	return "changed since generation " + fmt.Sprint(f.Current.Number) + ": " + strings.Join(changes.Names(), ", ")
}
