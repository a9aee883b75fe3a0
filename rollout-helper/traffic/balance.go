package traffic

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"app-rollout/rollout-helper/balance"
	"app-rollout/rollout-helper/ports"
	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/steering"
	"app-rollout/rollout-helper/systemd"
	"app-rollout/units"
)

// counts is where all is pinned that balances.
var counts = filepath.Join(units.BPFDir, "balance")

// Balance has new connections go to the unit with the least to do from now on or, if not
// least, to where the kernel's hash says.
func (k *Kernel) Balance(_ string, us []systemd.Unit, least bool) error {
	if !least {
		return unbalance(us)
	}
	err := ports.InBPFFS(units.BPFDir)
	if err == nil {
		err = keep(us)
	}
	if err == nil {
		return nil
	}
	return errors.Join(&steering.Unavailable{Reason: err.Error(), Err: err}, steering.Detach(paths(us)...), unbalance(us))
}

func keep(us []systemd.Unit) error {
	v, err := sockets.Look()
	if err != nil {
		return err
	}
	return balance.Keep(counts, units.SliceGroup, v, paths(us))
}

// unbalance ends the counting for an app.
func unbalance(us []systemd.Unit) error {
	if _, err := os.Stat(counts); errors.Is(err, fs.ErrNotExist) {
		return nil // nobody is balanced
	}
	v, err := sockets.Look()
	if err != nil {
		return err
	}
	return balance.Forget(counts, units.SliceGroup, v, paths(us))
}

// Unbalance ends all balancing on this machine, and lets the listeners of all apps go.
func Unbalance() error {
	if _, err := os.Stat(counts); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(steering.Detach(units.SliceGroup), balance.End(counts))
}
