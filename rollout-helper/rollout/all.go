package rollout

import (
	"context"
	"errors"
	"io/fs"
	"runtime"
	"slices"

	"app-rollout/units"
	"app-rollout/units/store"
)

// Result is how the run of one app ended.
type Result struct {
	App string
	Err error
}

// Apps are the apps that have an .env and those that have been rolled out. A name that
// cannot be an app's is a problem.
func (m *Machine) Apps() (apps []string, problems []*units.Problem, err error) {
	apps, problems, err = units.AppNames(m.Layout)
	if err != nil {
		return nil, nil, err
	}
	stored, err := store.Apps(m.Layout)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	for _, app := range stored {
		if !slices.Contains(apps, app) {
			apps = append(apps, app)
		}
	}
	slices.Sort(apps)
	return apps, problems, nil
}

// Each does the same for several apps, side by side. They share the CPUs and the
// daemon-reloads: see batch. The results are in the order of the apps.
func (m *Machine) Each(ctx context.Context, apps []string, do func(context.Context, string) error) []Result {
	if len(apps) == 1 {
		return []Result{{apps[0], do(ctx, apps[0])}}
	}
	return m.eachOf(ctx, apps, runtime.NumCPU(), do)
}

// eachOf is Each with so many CPUs.
func (m *Machine) eachOf(ctx context.Context, apps []string, cpus int, do func(context.Context, string) error) []Result {
	b := newBatch(ctx, apps, cpus, m.Systemd.Reload)
	m.batch = b
	defer func() { m.batch = nil }()
	results := make([]Result, len(apps))
	paced(len(apps), cpus, place, func(i int, give func()) {
		b.begin(apps[i], give)
		results[i] = Result{apps[i], do(ctx, apps[i])}
		b.pass(apps[i])
	})
	b.settle(results)
	return results
}
