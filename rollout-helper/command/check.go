package command

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"app-rollout/rollout-helper/doctor"
	"app-rollout/rollout-helper/screen"
	"app-rollout/units"
)

func checkCommand(std streams) *cli.Command {
	return &cli.Command{
		Name:      "check",
		Usage:     "say what is wrong, or may surprise, in .env files and on this machine",
		ArgsUsage: "[APP or FILE…]",
		Flags:     []cli.Flag{jsonFlag("print one JSON document, as app-rollout(1) describes it")},
		Action: func(c *cli.Context) error {
			report, err := check(c.Context, c.Args().Slice())
			if err != nil {
				return err
			}
			if c.Bool("json") {
				if err := printJSON(std.out, report); err != nil {
					return err
				}
			} else {
				printFindings(std.out, report)
			}
			if !report.OK {
				return errReported
			}
			return nil
		},
	}
}

// check checks apps and files. An argument with a slash, or one that ends in .env, is
// a file; every other one is an app's name.
func check(ctx context.Context, args []string) (*doctor.Report, error) {
	e, done := eyes()
	defer done()
	report := doctor.New()
	if len(args) == 0 {
		apps, problems, err := e.Apps()
		if err != nil {
			return nil, err
		}
		for _, p := range problems {
			report.Refuse("", p)
		}
		d := &doctor.Doctor{Machine: ofAll(e, apps).Machine}
		for _, app := range apps {
			d.App(ctx, report, app)
		}
		d.Host(ctx, report)
		return report, nil
	}
	d := &doctor.Doctor{Machine: e.Machine}
	all, _, _ := e.Apps() // without them a file is nobody's
	for _, arg := range args {
		app, file, err := target(arg)
		if err != nil {
			return nil, err
		}
		if file != "" {
			d.File(ctx, report, app, file, appOf(e.Layout, all, file))
			continue
		}
		if err := known(e, []string{app}); err != nil {
			return nil, err
		}
		d.App(ctx, report, app)
	}
	d.Host(ctx, report)
	return report, nil
}

// target says what an argument of check means: an app, or a file and the name of the
// app that it would be.
func target(arg string) (app, file string, err error) {
	if !strings.Contains(arg, "/") && !strings.HasSuffix(arg, ".env") {
		if !units.ValidName(arg) {
			return "", "", usageError{fmt.Errorf("%q is neither an app's name nor a file's: write ./%s for a file", arg, arg)}
		}
		return arg, "", nil
	}
	if file, err = filepath.Abs(arg); err != nil {
		return "", "", err
	}
	app = strings.TrimSuffix(filepath.Base(file), ".env")
	if filepath.Dir(file) == units.EtcDir && units.ValidName(app) && strings.HasSuffix(file, ".env") {
		return app, "", nil
	}
	if !units.ValidName(app) {
		// The link's name counts, because a release's file is often called .env.
		app = "app"
	}
	return app, file, nil
}

// appOf is the app whose .env a file is, or whose link in /etc/app-rollout leads to it; ""
// if it is no app's. Then what runs of the app is not in the way of the file.
func appOf(l units.Layout, apps []string, file string) string {
	info, err := os.Stat(file)
	if file == "" || err != nil {
		return ""
	}
	for _, app := range apps {
		if own, err := os.Stat(l.Env(app)); err == nil && os.SameFile(own, info) {
			return app
		}
	}
	return ""
}

func printFindings(s *screen.Screen, r *doctor.Report) {
	wrong := 0
	for _, f := range r.Findings {
		color := screen.Yellow
		if f.Level == doctor.Error {
			color = screen.Red
			wrong++
		}
		s.Say(s.Paint(color, f.String()))
	}
	if s.TTY && len(r.Findings) == 0 {
		s.Println(s.Paint(screen.Green, "all is well"))
	}
	if s.TTY && wrong == 0 && len(r.Findings) > 0 {
		s.Println("no errors")
	}
}
