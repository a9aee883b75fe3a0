// Package doctor says before a run what is wrong with an app and what may surprise:
// everything that the generator and a run would refuse, and advice about the machine.
// It changes nothing.
package doctor

import "app-rollout/units/problem"

// Version is the version of the JSON below. It grows when a field changes its meaning
// or is removed. New fields may be added at any time.
const Version = 2

// Report is what `app-rollout check --json` prints. No field ever holds the
// value of a variable.
type Report struct {
	Version  int       `json:"version"`
	OK       bool      `json:"ok"` // no finding is an error
	Findings []Finding `json:"findings"`
}

// The levels of findings.
const (
	Error   = "error"   // the generator or a run would refuse it
	Warning = "warning" // it runs, and may surprise
)

// Finding is one line for a person.
type Finding struct {
	Level string `json:"level"`
	App   string `json:"app,omitempty"`
	problem.Problem
}

func (f Finding) String() string {
	text := f.Problem.Error()
	if f.Path == "" && f.App != "" {
		text = f.App + ": " + text
	}
	if f.Level == Warning {
		return "warning: " + text
	}
	return text
}

// New is a report without findings.
func New() *Report { return &Report{Version: Version, OK: true, Findings: []Finding{}} }

// Refuse adds errors, one finding each.
func (r *Report) Refuse(app string, err error) {
	for _, one := range problem.Each(err) {
		r.OK = false
		r.Findings = append(r.Findings, Finding{Level: Error, App: app, Problem: *problem.Of(one)})
	}
}

// warn adds advice.
func (r *Report) warn(app string, p problem.Problem) {
	r.Findings = append(r.Findings, Finding{Level: Warning, App: app, Problem: p})
}
