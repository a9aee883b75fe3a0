package command

import (
	"fmt"
	"os"
	"slices"

	"github.com/urfave/cli/v2"

	"app-rollout/rollout-helper/journal"
	"app-rollout/rollout-helper/rollout"
	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/status"
	"app-rollout/rollout-helper/systemd"
	"app-rollout/rollout-helper/traffic"
	"app-rollout/units"
	"app-rollout/units/problem"
)

// machine is this machine, for a command that changes it.
func machine(std streams) (*rollout.Machine, func(), error) {
	if os.Geteuid() != 0 {
		return nil, nil, &problem.Problem{Text: "only root can do that", Remedy: "try sudo"}
	}
	manager, err := systemd.Dial()
	if err != nil {
		return nil, nil, fmt.Errorf("systemd does not answer: %w", err)
	}
	m := &rollout.Machine{
		Systemd: manager,
		Traffic: traffic.New(),
		Report:  journal.NewLog(std.out, std.err).Event,
	}
	return m, manager.Close, nil
}

// eyes are for a command that changes nothing. They see as much of this machine as the
// user may see.
func eyes() (status.Eyes, func()) {
	layout, release := units.Layout{}.Cached()
	manager, err := systemd.Dial()
	if err != nil {
		return see(layout, unreachable{why: err}), release
	}
	return see(layout, manager), func() { manager.Close(); release() }
}

func see(l units.Layout, s rollout.Systemd) status.Eyes {
	m := &rollout.Machine{Layout: l, Systemd: s, Traffic: traffic.New(), Report: func(rollout.Event) {}}
	return status.Eyes{Machine: m, Connections: sockets.Connections}
}

// ofAll are eyes for a command that looks at all apps. They ask PID 1 and the kernel
// once, not once for each app.
func ofAll(e status.Eyes, apps []string) status.Eyes {
	manager, ok := e.Systemd.(*systemd.Manager)
	if !ok || len(apps) < 2 {
		return e
	}
	known := make(map[string]bool, len(apps))
	for _, app := range apps {
		known[app] = true
	}
	m := &rollout.Machine{Layout: e.Layout, Traffic: e.Traffic, Report: e.Machine.Report}
	m.Systemd = manager.Snapshot(func(unit string) bool {
		i, ok := units.ParseInstance(unit)
		return ok && known[i.App]
	})
	return status.Eyes{Machine: m, Connections: sockets.EveryConnection()}
}

// looks is the action of a command that changes nothing: do gets the named apps,
// least to most of them, all of which exist.
func looks(least, most int, do func(c *cli.Context, e status.Eyes, names []string) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		names, err := appNames(c, least, most)
		if err != nil {
			return err
		}
		e, done := eyes()
		defer done()
		if err := known(e, names); err != nil {
			return err
		}
		return do(c, e, names)
	}
}

// changes is the same for a command that changes the machine.
func changes(std streams, least, most int, do func(c *cli.Context, m *rollout.Machine, names []string) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		names, err := appNames(c, least, most)
		if err != nil {
			return err
		}
		m, done, err := machine(std)
		if err != nil {
			return err
		}
		defer done()
		if err := known(m, names); err != nil {
			return err
		}
		return do(c, m, names)
	}
}

// known refuses a name for which there is neither an .env nor a store.
func known(m interface {
	Apps() ([]string, []*units.Problem, error)
}, names []string) error {
	if len(names) == 0 {
		return nil
	}
	apps, _, err := m.Apps()
	if err != nil {
		return err
	}
	for _, name := range names {
		if !slices.Contains(apps, name) {
			return &problem.Problem{Text: "there is no app " + name, Remedy: "put its .env, or a link to it, at " + units.Layout{}.Env(name)}
		}
	}
	return nil
}

// explain makes an error about missing rights say what to do.
func explain(err error) error {
	if remedy := problem.Sudo(err); remedy != "" {
		return &problem.Problem{Text: "only root can see the generations", Remedy: remedy}
	}
	return err
}
