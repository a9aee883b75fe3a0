// Package command has the commands, one in each file: those that people type, and
// those that the services run.
package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/urfave/cli/v2"

	"app-rollout/rollout-helper/screen"
)

// Exit statuses.
const (
	exitFailed = 1 // at least one app failed
	exitUsage  = 2
)

// Run runs the command that the arguments name, and returns its exit status.
func Run(ctx context.Context, version string, args []string, stdout, stderr *os.File) int {
	return run(ctx, version, args, streams{screen.New(stdout), screen.New(stderr)})
}

func run(ctx context.Context, version string, args []string, std streams) int {
	err := newApp(version, std).RunContext(ctx, flagsFirst(args))
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage):
		std.err.Say(fmt.Sprintf("app-rollout: %v; see: %s--help", err, helpOf(args)))
		return exitUsage
	case !errors.Is(err, errReported):
		std.err.Say(fmt.Sprintf("app-rollout: %v", err))
	}
	return exitFailed
}

// flagsFirst puts the flags before the arguments, because the CLI library reads a flag
// after an argument as an argument; and it knows no -n5.
func flagsFirst(args []string) []string {
	if len(args) < 2 {
		return args
	}
	sorted := args[:2:2]
	var others []string
	for i := 2; i < len(args); i++ {
		switch {
		case !strings.HasPrefix(args[i], "-"):
			others = append(others, args[i])
		case count.MatchString(args[i]):
			sorted = append(sorted, "-n", args[i][len("-n"):])
		case takesValue(args[i]) && i+1 < len(args):
			sorted = append(sorted, args[i], args[i+1])
			i++
		default:
			sorted = append(sorted, args[i])
		}
	}
	return append(sorted, others...)
}

// count is the flag -n with its value, as tail and journalctl take it.
var count = regexp.MustCompile(`^-n\d+$`)

// takesValue says whether the argument after a flag is the flag's value.
func takesValue(flag string) bool { return flag == "-n" || flag == "--lines" }

func newApp(version string, std streams) *cli.App {
	app := &cli.App{
		Name:            "app-rollout",
		Usage:           "run apps as instances on one port, and deploy them without losing a connection",
		Version:         version,
		HideHelpCommand: true,
		Writer:          std.out,
		ErrWriter:       std.err,
		Commands: []*cli.Command{
			runCommand(std), statusCommand(std), checkCommand(std), showCommand(std),
			restartCommand(std), rollbackCommand(std), historyCommand(std), logsCommand(std),
			swapCommand(std), recoverCommand(std), portsCommand(std), unbalanceCommand(),
		},
		OnUsageError:   func(_ *cli.Context, err error, _ bool) error { return usageError{misused("app-rollout", err)} },
		ExitErrHandler: func(*cli.Context, error) {}, // statuses are mapped in run
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usageError{fmt.Errorf("there is no command %q", c.Args().First())}
			}
			return cli.ShowAppHelp(c)
		},
	}
	for _, command := range app.Commands {
		command.OnUsageError = func(_ *cli.Context, err error, _ bool) error {
			return usageError{fmt.Errorf("%w; usage: %s", misused(command.Name, err), usage(command))}
		}
		command.HideHelpCommand = true
	}
	return app
}
