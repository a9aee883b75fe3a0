package command

import (
	"encoding/json"

	"github.com/urfave/cli/v2"

	"app-rollout/rollout-helper/screen"
)

func jsonFlag(usage string) cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: usage, DisableDefaultText: true}
}

func printJSON(s *screen.Screen, v any) error {
	out := json.NewEncoder(s)
	out.SetIndent("", "  ")
	out.SetEscapeHTML(false)
	return out.Encode(v)
}
