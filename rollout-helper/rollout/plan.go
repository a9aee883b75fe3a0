package rollout

import (
	"context"
	"errors"
	"io/fs"

	"app-rollout/units"
	"app-rollout/units/store"
)

// Foresight is what a run of one app would do now. Nothing is done, written or
// reserved by finding it out.
type Foresight struct {
	Spec    *units.Spec       // what the .env asks for; nil if it is gone
	Current *store.Generation // nil if none was ever ready
	Held    bool              // a run for all apps leaves it alone
	InPlace bool              // mode 0: the one service stops before it starts again
	Number  int               // of the generation that would be made
	Keep    []string          // units that go on
	Start   []string          // units that are started
	Stop    []string          // units that are stopped
}

// Foresee says what naming the app in a run would do. The error is the one that
// the run would end with before it touched anything.
func (m *Machine) Foresee(ctx context.Context, app string) (*Foresight, error) {
	disk := store.Of(m.Layout, app)
	current, err := disk.Current()
	if err != nil {
		return nil, err
	}
	all, err := m.ours(ctx, app)
	if err != nil {
		return nil, err
	}
	f := &Foresight{Current: current, Held: current.Held()}
	running := live(all)
	f.Spec, err = m.Layout.Read(app)
	if errors.Is(err, fs.ErrNotExist) {
		f.Stop = running
		return f, nil
	}
	if err != nil {
		return f, err
	}
	r := &rollout{Machine: m, app: app, store: disk, old: current, was: running}
	if refusal := r.agree(f.Spec.Plan); refusal != nil {
		refusal.Path = f.Spec.Source.Path
		return f, refusal
	}
	if f.Number, err = disk.Next(); err != nil {
		return f, err
	}
	r.new = &store.Generation{App: app, Plan: f.Spec.Plan, Digest: f.Spec.Digest(), Unsized: f.Spec.Unsized()}
	if f.InPlace = r.inPlace(); f.InPlace {
		f.Stop, f.Start = running, running
		return f, nil
	}
	i, err := disk.Instances()
	if err != nil {
		return f, err
	}
	if len(running) > 0 || i.Next != 1 {
		for _, u := range all {
			n, _ := number(app, u.Name)
			i.Next = max(i.Next, n+1)
		}
	}
	if f.Spec.Plan.Mode == 1 {
		f.Keep = r.keep(all)
	}
	numbers := i.Take(0, max(0, f.Spec.Plan.Nodes-len(f.Keep)))
	f.Start = f.Spec.Plan.Instances(app, numbers)
	f.Stop = without(running, f.Keep)
	return f, nil
}
