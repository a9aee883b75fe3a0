package command

import (
	"github.com/urfave/cli/v2"

	"app-rollout/rollout-helper/journal"
	"app-rollout/rollout-helper/screen"
	"app-rollout/rollout-helper/status"
	"app-rollout/units/problem"
)

func logsCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:      "logs",
		Usage:     "print what the instances and the rollouts of apps have logged",
		ArgsUsage: "[APP…]",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on with what they log from now on", DisableDefaultText: true},
			&cli.UintFlag{Name: "lines", Aliases: []string{"n"}, Usage: "how many lines at most", Value: 100},
		},
		Action: looks(0, many, func(c *cli.Context, e status.Eyes, names []string) error {
			if len(names) == 0 {
				var err error
				if names, _, err = e.Apps(); err != nil {
					return err
				}
			}
			if len(names) == 0 {
				return &problem.Problem{Text: "there are no apps", Remedy: "put an .env, or a link to one, into /etc/app-rollout"}
			}
			err := logs(c, journal.Logs{Apps: names}, std)
			if c.Context.Err() != nil {
				return nil // by Ctrl-C a person says that it is enough
			}
			return err
		}),
	}
}

func logs(c *cli.Context, l journal.Logs, std streams) error {
	hidden := journal.Hidden()
	tell := func() { std.err.Say(std.err.Paint(screen.Yellow, "not all is seen: "+journal.ErrHidden.Error())) }
	if c.Bool("follow") {
		if hidden {
			tell()
		}
		return l.Follow(c.Context, int(c.Uint("lines")), func(line journal.Line) { printLine(std.out, line) })
	}
	lines, err := l.Last(c.Context, int(c.Uint("lines")))
	for _, line := range lines {
		printLine(std.out, line)
	}
	// Some versions of journalctl succeed although they may read nothing.
	if err == nil && hidden && len(lines) == 0 {
		return journal.ErrHidden
	}
	if hidden && len(lines) > 0 {
		tell()
	}
	return err
}

// printLine prints a line, in colour if it is not the app's own. What the app itself says
// is never folded: somebody may copy it, and a terminal that folds it copies it whole.
func printLine(s *screen.Screen, l journal.Line) {
	color, own := "", l.Unit != "" && !l.About
	switch {
	case own:
	case l.Level <= "3":
		color = screen.Red
	case l.Level == "4":
		color = screen.Yellow
	default:
		color = screen.Bold
	}
	at, from := s.Paint(screen.Dim, l.Time.Local().Format("Jan 02 15:04:05")), s.Paint(color, l.From()+":")
	if own {
		s.Println(at, from, l.Text)
		return
	}
	s.Say(at, from, l.Text)
}
