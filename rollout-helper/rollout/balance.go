package rollout

import (
	"errors"

	"app-rollout/rollout-helper/steering"
	"app-rollout/rollout-helper/systemd"
	"app-rollout/units/step"
	"app-rollout/units/store"
)

// settle ends the steering. From then on new connections go to the units as the
// generation that serves asks, nil for none: to the one with the least to do, or by the
// kernel's hash. Where it cannot be balanced it is the hash, and why is an Unavailable.
func (m *Machine) settle(app string, g *store.Generation, all []systemd.Unit) (unbalanced *steering.Unavailable, err error) {
	if err := m.Traffic.Release(app, all); err != nil {
		return nil, err
	}
	err = m.Traffic.Balance(app, all, g != nil && g.Balanced)
	if errors.As(err, &unbalanced) {
		return unbalanced, nil
	}
	return nil, err
}

// settleAndSay is settle, and says it if the app is not balanced although it asks for that.
func (m *Machine) settleAndSay(app string, g *store.Generation, all []systemd.Unit) error {
	unbalanced, err := m.settle(app, g, all)
	if unbalanced != nil {
		m.Report(Event{
			App: app, Generation: g.Number, Step: step.Forget, Level: Warning,
			Text: "new connections are not balanced, but go by the kernel's hash: " + unbalanced.Reason,
		})
	}
	return err
}
