package rollout

import (
	"context"
	"errors"
	"io/fs"
	"runtime"
	"slices"
	"sync"
	"time"

	"app-rollout/units"
)

// Result is how the run of one app ended.
type Result struct {
	App string
	Err error
}

// slot is how long an app counts as working.
const slot = 3 * time.Second

// How long an instance counts as starting and as stopping. Setting up its sandbox
// and what its program does before it listens takes a CPU, and so does giving
// back its memory.
const (
	startSlot = time.Second
	stopSlot  = 100 * time.Millisecond
)

// Apps are all apps there are to look after: those with an .env and those that
// have been rolled out. Names that cannot be an app's are problems.
func (m *Machine) Apps() (apps []string, problems []*units.Problem, err error) {
	apps, problems, err = units.AppNames(m.Layout)
	if err != nil {
		return nil, nil, err
	}
	stored, err := m.Layout.Stored()
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

// half of the CPUs is how many instances of an app start or stop at a time: the
// other half is left to those that serve.
func half() int { return max(1, runtime.NumCPU()/2) }

// paced does n things side by side: as many as there are slots begin at once.
// One that takes longer than a slot lasts waits for something, and another may
// begin beside it: a slow one delays none.
func paced(n, slots int, slot time.Duration, do func(i int)) {
	taken := make(chan struct{}, slots)
	var all sync.WaitGroup
	for i := range n {
		taken <- struct{}{}
		give := sync.OnceFunc(func() { <-taken })
		timer := time.AfterFunc(slot, give)
		all.Add(1)
		go func() {
			defer all.Done()
			do(i)
			timer.Stop()
			give()
		}()
	}
	all.Wait()
}

// Changed are the apps whose .env asks for something else than what runs, and
// has not failed before. One that cannot be read has been reported.
func (m *Machine) Changed() ([]string, error) {
	apps, _, err := m.Apps()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(apps, func(app string) bool {
		spec, err := m.Layout.Read(app)
		if err != nil {
			return true
		}
		current, err := m.Layout.Store(app).Current()
		if err != nil {
			return true
		}
		rejected, err := m.Layout.Store(app).Rejected()
		if err != nil || rejected != nil && rejected.Digest == spec.Digest() {
			return true
		}
		return current.Held() || current != nil && current.Digest == spec.Digest()
	}), nil
}
