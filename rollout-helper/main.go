// Command rollout-helper replaces running instances of apps by new ones, and
// shows people how they stand. Its link /usr/bin/app-rollout is for people;
// the services call it by its own name. It never stays resident.
package main

import (
	"context"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"app-rollout/rollout-helper/command"
	"app-rollout/units/dotenv"
)

// version is set when the package is built.
var version = "unknown"

func main() {
	dotenv.ParserMain()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	status := command.Run(ctx, version, os.Args, os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}
