package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"app-rollout/rollout-helper/rollout"
	"app-rollout/units"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:      "status",
		Usage:     "show how the apps stand",
		ArgsUsage: "[APP…]",
		Action: func(c *cli.Context) error {
			names, err := appNames(c, 0, many)
			if err != nil {
				return err
			}
			m, done, err := machine()
			if err != nil {
				return err
			}
			defer done()
			if err := known(m, names); err != nil {
				return err
			}
			if len(names) == 0 {
				if names, _, err = m.Apps(); err != nil {
					return err
				}
			}
			for i, name := range names {
				if i > 0 {
					fmt.Println()
				}
				if err := status(c.Context, m, name); err != nil {
					fmt.Printf("%s: %v\n", name, err)
				}
			}
			return nil
		},
	}
}

func status(ctx context.Context, m *rollout.Machine, app string) error {
	store := m.Layout.Store(app)
	current, err := store.Current()
	if err != nil {
		return err
	}
	us, err := m.Instances(ctx, app)
	if err != nil {
		return err
	}
	fmt.Println(app)
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	if current == nil {
		fmt.Fprintln(w, "  generation:\tnone has been ready yet")
	} else {
		fmt.Fprintf(w, "  generation:\t%d, ready since %s\n", current.Number, current.Created.Local().Format(time.DateTime))
		fmt.Fprintf(w, "  mode:\t%d\n", current.Mode)
		if current.Port != 0 {
			fmt.Fprintf(w, "  port:\t%d\n", current.Port)
		}
	}
	asked, err := asks(m, app, current)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "  .env:\t%s\n", asked)
	if current != nil && current.Rollout != nil {
		r := current.Rollout
		fmt.Fprintf(w, "  last rollout:\t%s in %.1f s, traffic %s%s, %d connections drained, %d cut\n", r.Result, r.Seconds, r.Rung, because(r.RungWhy), r.Drained, r.Cut)
	}
	for _, u := range us {
		fmt.Fprintf(w, "  %s\t%s (%s)\tpid %d\tsince %s\t%d restarts\n", u.Name, u.Active, u.Sub, u.MainPID, u.Since.Local().Format(time.DateTime), u.Restarts)
	}
	return w.Flush()
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return " (" + why + ")"
}

// asks says what an app's .env asks for, against what runs.
func asks(m *rollout.Machine, app string, current *units.Generation) (string, error) {
	spec, err := m.Layout.Read(app)
	if errors.Is(err, fs.ErrNotExist) {
		return "gone: the next run stops the app", nil
	}
	if err != nil {
		return "invalid: " + oneLine(err.Error()), nil
	}
	if current != nil && current.Digest == spec.Digest() {
		return "asks for what runs", nil
	}
	rejected, err := m.Layout.Store(app).Rejected()
	if err != nil {
		return "", err
	}
	if rejected != nil && rejected.Digest == spec.Digest() && rejected.Rollout != nil {
		return fmt.Sprintf("rejected (generation %d): %s", rejected.Number, rejected.Rollout.Reason), nil
	}
	return "changed: the next run rolls it out", nil
}
