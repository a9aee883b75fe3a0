// Package doctor says before a run what is wrong with an app and what may surprise:
// everything that the generator and a run would refuse, and advice about the machine.
// It changes nothing.
package doctor

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"app-rollout/units"
	"app-rollout/units/problem"
)

// Version is the version of the JSON below. It grows when a field changes its meaning
// or is removed. New fields may be added at any time.
const Version = 1

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
	Path  string `json:"path,omitempty"`
	Line  int    `json:"line,omitempty"`
	Text  string `json:"text"`
}

func (f Finding) String() string {
	text := (&units.Problem{Path: f.Path, Line: f.Line, Text: f.Text}).Error()
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
		f := Finding{Level: Error, App: app, Text: one.Error()}
		var p *units.Problem
		if errors.As(one, &p) {
			f.Path, f.Line, f.Text = p.Path, p.Line, p.Text
		}
		if denied := errors.Is(one, fs.ErrPermission) || strings.HasSuffix(f.Text, "permission denied"); denied && os.Geteuid() != 0 {
			f.Text += "; try sudo"
		}
		r.Findings = append(r.Findings, f)
	}
}

// warn adds advice.
func (r *Report) warn(app, path string, line int, text string) {
	r.Findings = append(r.Findings, Finding{Level: Warning, App: app, Path: path, Line: line, Text: text})
}
