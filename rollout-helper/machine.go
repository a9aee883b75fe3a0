package main

import (
	"errors"
	"fmt"
	"os"

	"app-rollout/rollout-helper/rollout"
	"app-rollout/rollout-helper/systemd"
	"app-rollout/rollout-helper/traffic"
	"app-rollout/units"
)

// machine is this machine, for a command that changes it.
func machine() (*rollout.Machine, func(), error) {
	if os.Geteuid() != 0 {
		return nil, nil, errors.New("only root can do that; try sudo")
	}
	manager, err := systemd.Dial()
	if err != nil {
		return nil, nil, fmt.Errorf("systemd does not answer: %w", err)
	}
	log := newLog()
	m := &rollout.Machine{
		Systemd: manager,
		Traffic: traffic.New(),
		Report:  log.event,
	}
	return m, manager.Close, nil
}

// known refuses the name of an app that there is nothing of.
func known(m *rollout.Machine, names []string) error {
	apps, _, err := m.Apps()
	if err != nil {
		return err
	}
	for _, name := range names {
		found := false
		for _, app := range apps {
			found = found || app == name
		}
		if !found {
			return fmt.Errorf("there is no app %s: put its .env, or a link to it, at %s", name, units.Layout{}.Env(name))
		}
	}
	return nil
}
