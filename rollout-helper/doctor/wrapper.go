package doctor

import (
	"context"

	"app-rollout/units"
)

// wrapper says that the app, as it runs now, cannot stop by itself.
func (d *Doctor) wrapper(ctx context.Context, r *Report, spec *units.Spec) {
	us, err := d.Units(ctx, spec.App)
	if err != nil || d.view == nil {
		return // the machine's part says so
	}
	if p := d.Wrapped(d.view, us, spec.Plan.Port); p != nil {
		p.Path = spec.Source.Path
		r.warn(spec.App, *p)
	}
}
