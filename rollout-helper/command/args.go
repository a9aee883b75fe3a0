package command

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"app-rollout/rollout-helper/screen"
	"app-rollout/units"
)

// errReported ends the command with exitFailed. The errors have been printed.
var errReported = errors.New("reported")

// usageError is a mistake in the arguments.
type usageError struct{ error }

// streams are where a command prints.
type streams struct{ out, err *screen.Screen }

// appNames are a command's arguments: names of apps, at least least and at most most
// of them.
func appNames(c *cli.Context, least, most int) ([]string, error) {
	names := c.Args().Slice()
	for _, name := range names {
		if !units.ValidName(name) {
			return nil, usageError{fmt.Errorf("%q cannot be an app's name: lower-case letters, digits, - and _", name)}
		}
	}
	if len(names) < least || len(names) > most {
		return nil, usageError{fmt.Errorf("%s takes %s", c.Command.Name, c.Command.ArgsUsage)}
	}
	return names, nil
}

const many = 10000 // names on a command line
