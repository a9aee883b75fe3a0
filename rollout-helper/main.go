// Command rollout-helper replaces running instances of apps by new ones, and
// shows people how they stand. Its link /usr/bin/app-rollout is for people;
// the services call it by its own name. It never stays resident.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"app-rollout/units"
	"app-rollout/units/dotenv"
)

// Exit statuses.
const (
	exitFailed = 1 // at least one app failed; its old generation still serves
	exitUsage  = 2
)

// errReported ends the command with exitFailed when all has been said.
var errReported = errors.New("reported")

// usageError is one of the person's who typed the command.
type usageError struct{ error }

func main() {
	dotenv.ParserMain()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	status := run(ctx, os.Args)
	stop()
	os.Exit(status)
}

func run(ctx context.Context, args []string) int {
	err := newApp().RunContext(ctx, flagsFirst(args))
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage):
		fmt.Fprintf(os.Stderr, "app-rollout: %v; see: app-rollout --help\n", err)
		return exitUsage
	case !errors.Is(err, errReported):
		fmt.Fprintf(os.Stderr, "app-rollout: %v\n", err)
	}
	return exitFailed
}

// flagsFirst puts the flags before the arguments, since the CLI library takes a
// flag behind an argument for an argument. No flag here has a value.
func flagsFirst(args []string) []string {
	if len(args) < 2 {
		return args
	}
	sorted := args[:2:2]
	for _, arg := range args[2:] {
		if strings.HasPrefix(arg, "-") {
			sorted = append(sorted, arg)
		}
	}
	for _, arg := range args[2:] {
		if !strings.HasPrefix(arg, "-") {
			sorted = append(sorted, arg)
		}
	}
	return sorted
}

// version is set when the package is built.
var version = "unknown"

func newApp() *cli.App {
	asUsage := func(_ *cli.Context, err error, _ bool) error { return usageError{err} }
	app := &cli.App{
		Name:            "app-rollout",
		Usage:           "run apps as instances on one port, and deploy them without losing a connection",
		Version:         version,
		HideHelpCommand: true,
		Commands: []*cli.Command{
			runCommand(), statusCommand(), checkCommand(), showCommand(), rollbackCommand(), historyCommand(),
			swapCommand(), recoverCommand(), portsCommand(),
		},
		OnUsageError:   asUsage,
		ExitErrHandler: func(*cli.Context, error) {}, // statuses are mapped in run
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usageError{fmt.Errorf("there is no command %q", c.Args().First())}
			}
			return cli.ShowAppHelp(c)
		},
	}
	for _, command := range app.Commands {
		command.OnUsageError = asUsage
		command.HideHelpCommand = true
	}
	return app
}

// appNames are a command's arguments: names of apps, min to max of them.
func appNames(c *cli.Context, min, max int) ([]string, error) {
	names := c.Args().Slice()
	for _, name := range names {
		if !units.ValidName(name) {
			return nil, usageError{fmt.Errorf("%q cannot be an app's name: lower-case letters, digits, - and _", name)}
		}
	}
	if len(names) < min || len(names) > max {
		return nil, usageError{fmt.Errorf("%s takes %s", c.Command.Name, c.Command.ArgsUsage)}
	}
	return names, nil
}

const many = 10000 // names on a command line
