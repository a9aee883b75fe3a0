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

// slot is how long an app counts as working.
const slot = 3 * time.Second

// Apps are all apps there are to look after: those with an .env and those that
// have been rolled out. Names that cannot be an app's are problems.
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

// Each does the same for several apps, side by side: as many as there are CPUs
// begin at once. The results are in the order of the apps.
func (m *Machine) Each(ctx context.Context, apps []string, do func(context.Context, string) error) []Result {
	results := make([]Result, len(apps))
	paced(len(apps), runtime.NumCPU(), slot, func(i int) { results[i] = Result{apps[i], do(ctx, apps[i])} })
	return results
}
