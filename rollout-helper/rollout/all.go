package rollout

import (
	"context"
	"errors"
	"io/fs"
	"runtime"
	"slices"
	"time"

	"app-rollout/units"
	"app-rollout/units/store"
)

// Result is how the run of one app ended.
type Result struct {
	App string
	Err error
}

// appSlot is how long an app counts as working: see paced.
const appSlot = 3 * time.Second

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

// Each does the same for several apps at a time: as many begin at once as there are
// CPUs. The results are in the order of the apps.
func (m *Machine) Each(ctx context.Context, apps []string, do func(context.Context, string) error) []Result {
	results := make([]Result, len(apps))
	paced(len(apps), runtime.NumCPU(), appSlot, func(i int) { results[i] = Result{apps[i], do(ctx, apps[i])} })
	return results
}
