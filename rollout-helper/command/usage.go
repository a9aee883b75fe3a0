package command

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"
)

// helpWidth is how many columns a line of --help has at most.
const helpWidth = 79

func init() {
	cli.HelpPrinter = func(w io.Writer, text string, data any) {
		cli.HelpPrinterCustom(w, text, data, map[string]any{"wrapAt": func() int { return helpWidth }})
	}
}

// usage is the line that says how a command is called.
func usage(c *cli.Command) string {
	words := []string{"app-rollout", c.Name}
	for _, f := range c.Flags {
		name, value := f.Names()[0], ""
		if d, ok := f.(cli.DocGenerationFlag); ok && d.TakesValue() {
			value = " N"
		}
		if name != "help" {
			words = append(words, "["+dashed(name)+value+"]")
		}
	}
	if c.ArgsUsage != "" {
		words = append(words, c.ArgsUsage)
	}
	return strings.Join(words, " ")
}

// dashed is a flag as a person types it.
func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// misused says what is wrong with the flags of a command. The flag package of Go, whose
// error it is, names each flag with one dash.
func misused(name string, err error) error {
	text := err.Error()
	if flag, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		return fmt.Errorf("%s has no option %s", name, dashed(flag))
	}
	if flag, ok := strings.CutPrefix(text, "flag needs an argument: -"); ok {
		return fmt.Errorf("the option %s of %s needs a value", dashed(flag), name)
	}
	if rest, ok := strings.CutPrefix(text, "invalid value "); ok {
		value, rest, _ := strings.Cut(rest, " for flag -")
		flag, _, _ := strings.Cut(rest, ":")
		return fmt.Errorf("the option %s of %s cannot be %s", dashed(flag), name, value)
	}
	return errors.New(text)
}

// helpOf is the command whose help tells how to call what was called, with a space.
func helpOf(args []string) string {
	if len(args) > 1 {
		for _, c := range newApp("", streams{}).Commands {
			if c.Name == args[1] {
				return "app-rollout " + c.Name + " "
			}
		}
	}
	return "app-rollout "
}
