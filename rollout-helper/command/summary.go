package command

import (
	"fmt"
	"os"
	"strings"
	"time"

	"app-rollout/rollout-helper/rollout"
	"app-rollout/units/step"
	"app-rollout/units/store"
)

// mostNamed is how many apps a summary names.
const mostNamed = 6

// summarize reports how all apps stand after a run for all that went well. It is the
// last thing that the run says, because `systemctl status` shows that of a service that
// has ended.
func summarize(m *rollout.Machine, took time.Duration) error {
	apps, _, err := m.Apps()
	if err != nil {
		return err
	}
	if len(apps) == 0 {
		m.Report(rollout.Event{Step: step.End, Text: "there are no apps", Remedy: "put an .env, or a link to one, into /etc/app-rollout"})
		return nil
	}
	var stand []string
	for _, app := range apps[:min(len(apps), mostNamed)] {
		stand = append(stand, app+" "+stands(m, app))
	}
	if more := len(apps) - mostNamed; more > 0 {
		stand = append(stand, fmt.Sprintf("and %d more", more))
	}
	m.Report(rollout.Event{Step: step.End, Text: fmt.Sprintf("done in %.1f s: %s", took.Seconds(), strings.Join(stand, ", "))})
	return nil
}

// stands says which generation of an app is the current one.
func stands(m *rollout.Machine, app string) string {
	current, err := store.Of(m.Layout, app).Current()
	_, gone := os.Lstat(m.Layout.Env(app))
	switch {
	case err != nil || current == nil:
		return "has no generation"
	case gone != nil:
		return "is stopped, without .env"
	case current.Held():
		return fmt.Sprintf("is held on generation %d", current.Number)
	}
	return fmt.Sprintf("is on generation %d", current.Number)
}
