package rollout

import (
	"context"
	"time"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/units/step"
)

// spread is the last part of the drain time, over which the stop signals are spread: a
// tenth of it.
const spread = 10

// part begins to stop units in the last part of the drain time, one after the other, so
// that their clients do not all come back at the same moment. An instance that owes an
// answer keeps its whole time. So does the last one.
func (d *drain) part(ctx context.Context, each map[string]sockets.Work) {
	span, left := d.limit/spread, time.Until(d.deadline)
	if left >= span {
		return
	}
	if d.parts == 0 {
		for _, name := range d.names {
			if each[name].Open() > 0 {
				d.parts++
			}
		}
		// However many there are, all of them can begin within the span.
		slots := int(time.Duration(d.parts)*stopSlot/span) + 1
		d.stops().pace = newPace(max(half(), slots), stopSlot)
	}
	due := int(time.Duration(d.parts) * (span - left) / span)
	for _, name := range d.names {
		if len(d.told()) >= due || !d.stops().pace.free() {
			return
		}
		if work := each[name]; work.Open() > 0 && d.inHand(work) == 0 {
			if len(d.told()) == 0 {
				d.say(Info, step.Drain, "stopping %s one after the other, because their clients stay", list(d.names))
			}
			d.Traffic.Follow(d.app, name)
			d.parted = d.parted.Plus(work)
			d.names = without(d.names, []string{name})
			d.stops().begin(ctx, name)
		}
	}
}
