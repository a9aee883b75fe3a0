// Package follow starts services and shows to a person what they do with the
// apps, until they have ended.
package follow

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"app-rollout/rollout-helper/journal"
	"app-rollout/rollout-helper/rollout"
	"app-rollout/rollout-helper/screen"
	"app-rollout/rollout-helper/status"
	"app-rollout/units/problem"
	"app-rollout/units/step"
	"app-rollout/units/store"
)

// View shows runs to a person: on a terminal one live line an app, and what
// went wrong with the log of who did it; otherwise each record as it comes.
// At the end there is one line an app.
type View struct {
	out, err *screen.Screen
	eyes     status.Eyes
	apps     []*progress // in the order of their names
	shown    int         // live lines on the terminal
	looked   time.Time
	wide     int // the longest name
	began    time.Time

	told   []string // the services that have logged a failure
	broken []broken // those that have failed
}

// broken is a service that has failed, and how in systemd's word.
type broken struct{ service, how string }

// progress is how far one app has come.
type progress struct {
	name     string
	step     string
	text     string
	began    time.Time
	ended    time.Time
	number   int // generation that is rolled out
	before   int // the current one when the run began
	failures []journal.Record
	counts   string
}

// lookTick is how often instances and connections are counted for the live
// lines, and mostLooked for how many apps at once.
const (
	lookTick   = 300 * time.Millisecond
	mostLooked = 4
)

// NewView is a view of runs for the named apps.
func NewView(out, err *screen.Screen, e status.Eyes, apps []string) *View {
	v := &View{out: out, err: err, eyes: e, began: time.Now()}
	for _, name := range slices.Sorted(slices.Values(apps)) {
		p := &progress{name: name}
		if current, err := store.Of(e.Layout, name).Current(); err == nil && current != nil {
			p.before = current.Number
		}
		v.apps = append(v.apps, p)
		v.wide = max(v.wide, utf8.RuneCountInString(name))
	}
	return v
}

func (v *View) app(name string) *progress {
	for _, p := range v.apps {
		if p.name == name {
			return p
		}
	}
	if name == "" {
		return nil
	}
	// One that came meanwhile.
	p := &progress{name: name}
	v.apps = append(v.apps, p)
	return p
}

// record takes in one line of a run's log.
func (v *View) record(r journal.Record) {
	if p := v.app(r.App); p != nil {
		if p.began.IsZero() {
			p.began = time.Now()
		}
		p.step, p.text = r.Step, r.Text
		if text, ok := rollout.About(r.Text, p.name); ok {
			p.text = text
		}
		if n, err := strconv.Atoi(r.Number); err == nil {
			p.number = n
		}
		if r.Failed() {
			p.failures = append(p.failures, r)
			p.ended = time.Now()
		}
	}
	if r.Failed() {
		v.told = append(v.told, r.Service)
	}
	switch {
	case !v.out.TTY && r.Step == step.End && !r.Failed():
		// This view has a summary of its own.
	case !v.out.TTY && r.Failed():
		v.err.Println(r.Text)
	case !v.out.TTY:
		v.out.Println(r.Text)
	case r.Step == "" || r.Priority == "4" || r.Failed() && r.App == "" && r.Step != step.End:
		// What stands in no live line, and warnings.
		v.clear()
		v.out.Say(v.out.Paint(screen.Yellow, r.Text))
	case r.Step == step.Rollback:
		// A person is to read what comes back, and that takes longer.
		v.clear()
		v.out.Say(r.Text)
	}
}

// broke takes in that a service has failed.
func (v *View) broke(service, how string) { v.broken = append(v.broken, broken{service, how}) }

// silent are the services that have failed, and of which no failure was logged, as those
// whose helper was killed.
func (v *View) silent() (all []broken) {
	for _, b := range v.broken {
		explained := slices.Contains(v.told, b.service) ||
			slices.ContainsFunc(v.apps, func(p *progress) bool { return len(p.failures) > 0 && actsOn(b.service, p.name) })
		if !explained {
			all = append(all, b)
		}
	}
	return all
}

// actsOn reports whether a service acts on an app: the app's own, or one for all apps.
func actsOn(service, app string) bool {
	_, name, one := strings.Cut(strings.TrimSuffix(service, ".service"), "@")
	return !one || name == app
}

// committed says that a service has nothing to take back any more.
func (v *View) committed(service string) bool {
	_, name, one := strings.Cut(strings.TrimSuffix(service, ".service"), "@")
	for _, p := range v.apps {
		if one && p.name != name || !p.ended.IsZero() {
			continue
		}
		if !step.Committed(p.step) {
			return false
		}
	}
	return true
}

// note prints a line that no service has logged.
func (v *View) note(text string) {
	v.clear()
	v.err.Say(text)
}

// clear removes the live lines.
func (v *View) clear() {
	if v.shown > 0 {
		v.out.Printf("\x1b[%dA\x1b[J", v.shown)
		v.shown = 0
	}
}

// draw draws the live lines anew.
func (v *View) draw(ctx context.Context) {
	if !v.out.TTY {
		return
	}
	if time.Since(v.looked) >= lookTick {
		v.look(ctx)
		v.looked = time.Now()
	}
	v.clear()
	for _, line := range v.live() {
		v.out.Println(v.out.Cut(line))
		v.shown++
	}
}

// live are the live lines, one for each app that has begun. If there are more than the
// terminal has rows, which could not be drawn anew, those of apps that have failed or are
// as good as done give way first.
func (v *View) live() (lines []string) {
	var under, ended []*progress
	for _, p := range v.apps {
		switch {
		case p.began.IsZero():
		case !p.ended.IsZero() || p.step == step.Forget:
			ended = append(ended, p)
		default:
			under = append(under, p)
		}
	}
	all, more := v.apps, 0
	if most := v.out.Most(); len(under)+len(ended) > most {
		more = len(under) + len(ended) - (most - 1)
		all = append(under, ended...)[:most-1]
	}
	for _, p := range all {
		if !p.began.IsZero() {
			lines = append(lines, v.line(p))
		}
	}
	if more > 0 {
		lines = append(lines, fmt.Sprintf("… and %d more", more))
	}
	return lines
}

func (v *View) line(p *progress) string {
	end := time.Now()
	if !p.ended.IsZero() {
		end = p.ended
	}
	text := p.counts
	if text == "" || p.step == step.Failed {
		text = p.text
	}
	return fmt.Sprintf("%-*s  %-7s %6.1f s  %s", v.wide, p.name, p.step, end.Sub(p.began).Seconds(), text)
}

// look counts, for the live lines.
func (v *View) look(ctx context.Context) {
	looked := 0
	for _, p := range v.apps {
		if p.began.IsZero() || !p.ended.IsZero() || p.number == 0 || looked == mostLooked {
			continue
		}
		looked++
		a, err := v.eyes.Look(ctx, p.name)
		if err != nil {
			continue
		}
		// In a restart all instances are of one generation.
		if p.counts = v.counts(a, p.number); p.counts == "" || p.number == p.before {
			p.counts = p.text
		}
	}
}

// counts tells the instances of a generation and what the others still have.
func (v *View) counts(a status.App, number int) string {
	ready, fresh, old, connections := 0, 0, 0, 0
	listens := a.Listens()
	for _, i := range a.Instances {
		if i.Generation != number {
			old++
			connections += i.Connections
			continue
		}
		fresh++
		if i.Up() && (i.Listeners > 0 || !listens) {
			ready++
		}
	}
	if fresh == 0 {
		return ""
	}
	nodes := fresh
	if g, err := store.Of(v.eyes.Layout, a.Name).Generation(number); err == nil {
		nodes = max(fresh, g.Nodes) // some may not have been begun yet
	}
	if !listens {
		return fmt.Sprintf("generation %d: %d of %d run", number, ready, nodes)
	}
	text := fmt.Sprintf("generation %d: %d of %d listen", number, ready, nodes)
	if old > 0 {
		text += fmt.Sprintf(", %d connections on %d old", connections, old)
	}
	return text
}

// summary is the end: one line an app, and where one failed, what helps.
func (v *View) summary(ctx context.Context) {
	v.clear()
	failed, silent := 0, v.silent()
	for _, p := range v.apps {
		if len(p.failures) > 0 {
			failed++
			v.teach(p)
			continue
		}
		if slices.ContainsFunc(silent, func(b broken) bool { return actsOn(b.service, p.name) }) {
			failed++
			continue
		}
		if text := v.success(ctx, p); text != "" && v.out.TTY {
			v.out.Say(v.out.Paint(screen.Green, "✓"), text)
		}
	}
	for _, b := range silent {
		p := problem.Problem{Text: fmt.Sprintf("%s failed (%s)", b.service, b.how), Remedy: "see: journalctl -b -u " + b.service}
		if v.out.TTY {
			v.out.Say(v.out.Paint(screen.Red, "✗"), p.Error())
		} else {
			v.err.Println(p.Error())
		}
	}
	if len(v.apps) > 1 && !slices.ContainsFunc(silent, func(b broken) bool { return actsOn(b.service, "") }) {
		v.out.Printf("%d apps in %.1f s: %d well, %d failed\n", len(v.apps), time.Since(v.began).Seconds(), len(v.apps)-failed, failed)
	}
}

// margin stands before the lines of an instance's log.
const margin = "    │ "

// teach says of a failed app what happened and, on a terminal, what the
// instance itself had to say, which may be secret and so goes nowhere else.
func (v *View) teach(p *progress) {
	if !v.out.TTY {
		return
	}
	for _, r := range p.failures {
		v.out.Say(v.out.Paint(screen.Red, "✗"), r.Text)
		if r.Unit == "" {
			continue
		}
		lines := journal.LastLines(r.Unit, v.began, mostRead)
		if len(lines) == 0 {
			v.out.Say("   ", v.out.Paint(screen.Dim, r.Unit+" has logged nothing"))
			continue
		}
		v.out.Say("   ", v.out.Paint(screen.Dim, "the last it logged ("+r.Unit+"):"))
		for _, line := range cause(lines) {
			rows := 1
			if namesError(line) {
				rows = mostRows
			}
			for _, row := range v.out.Fold(strings.ReplaceAll(line, "\t", "    "), utf8.RuneCountInString(margin), rows) {
				v.out.Println(v.out.Paint(screen.Dim, margin) + row)
			}
		}
	}
}

// success is the line for an app that did not fail.
func (v *View) success(ctx context.Context, p *progress) string {
	current, err := store.Of(v.eyes.Layout, p.name).Current()
	if err != nil || current == nil || current.Rollout == nil || p.began.IsZero() {
		return ""
	}
	if p.step == step.Stop && p.number == 0 {
		return p.name + ": its .env is gone, and so it was stopped"
	}
	serves := v.serves(ctx, p.name, current)
	if r := current.Restart; r != nil && r.Started.After(v.began) {
		return fmt.Sprintf("%s: %s: restarted in %.1f s%s", p.name, serves, r.Seconds, r.Told())
	}
	if current.Number == p.before {
		return fmt.Sprintf("%s: %s, as before", p.name, serves)
	}
	r := current.Rollout
	return fmt.Sprintf("%s: %s: rolled out in %.1f s%s", p.name, serves, r.Seconds, r.Told())
}

// serves says what the instances of a generation do now: "generation 2 serves".
func (v *View) serves(ctx context.Context, app string, g *store.Generation) string {
	a, err := v.eyes.Look(ctx, app)
	if err != nil {
		return fmt.Sprintf("generation %d is the current one", g.Number)
	}
	well, listens := 0, a.Listens()
	for _, i := range a.Instances {
		if i.Generation == g.Number && i.Up() && (i.Listeners > 0 || !listens) {
			well++
		}
	}
	switch {
	case well < g.Nodes:
		return fmt.Sprintf("generation %d is the current one, but %d of %d instances are up", g.Number, well, g.Nodes)
	case listens:
		return fmt.Sprintf("generation %d serves", g.Number)
	}
	return fmt.Sprintf("generation %d runs", g.Number)
}
