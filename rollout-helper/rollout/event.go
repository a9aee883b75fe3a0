package rollout

import (
	"strings"

	"app-rollout/units/problem"
)

// Event is one thing that a run reports: one line.
type Event struct {
	App        string
	Generation int // 0: before there is one
	Step       string
	Unit       string // of a failure: the instance that did it
	Text       string
	Remedy     string // of what went wrong: what to do about it
	Level      Level
	// Result says how the run has ended for the app, as a receipt does. One event at most
	// has it in each run, and each rollout that went well.
	Result string
}

// warning is an event that tells of an error which ends nothing.
func warning(app, at string, err error) Event {
	p := problem.Of(err)
	return Event{App: app, Step: at, Text: p.What(), Remedy: p.Remedy, Level: Warning}
}

// Level says how much an event matters.
type Level int

// The levels.
const (
	Info Level = iota
	Warning
	Failed
)

// Line is the event as it stands in the journal and in the status text of the service.
func (e Event) Line() string {
	text := strings.ReplaceAll(problem.Join(e.Text, e.Remedy), "\n", "; ")
	if e.App == "" {
		return text
	}
	return e.App + ": " + text
}

// About takes the text out of a Line about an app. It is false if the line is about
// another app, or about none.
func About(line, app string) (text string, ok bool) { return strings.CutPrefix(line, app+": ") }
