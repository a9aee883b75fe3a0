package rollout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"app-rollout/units/step"
	"app-rollout/units/store"
)

// Rollback rolls out an earlier generation again, with all that was frozen, and holds
// the app on it: neither a boot nor a run for all replaces it.
func (m *Machine) Rollback(ctx context.Context, app string) error {
	return m.locked(ctx, app, "app-rollout rollback "+app, func() error { return m.goBack(ctx, app) })
}

func (m *Machine) goBack(ctx context.Context, app string) error {
	if err := m.recover(ctx, app); err != nil {
		m.Report(warning(app, step.Recover, err))
	}
	disk := store.Of(m.Layout, app)
	current, err := disk.Current()
	if err != nil {
		return err
	}
	if current == nil {
		return told(app+" has never been ready: there is nothing to roll back to",
			"to roll out what its .env asks for: app-rollout run "+app)
	}
	earlier, over, err := m.before(disk, current)
	if err != nil {
		return err
	}
	if earlier == nil {
		return nothingBefore(app, current, over)
	}
	m.foretell(disk, current, earlier, over)
	r, s, err := m.newRollout(ctx, app)
	if err != nil {
		return err
	}
	r.rollback = true
	release, refusal := m.admit(s, earlier.Plan, r.again())
	if refusal != nil {
		refusal.Text = fmt.Sprintf("generation %d: %s", earlier.Number, refusal.Text)
		if refusal.holder != "" { // what is frozen keeps its PORT
			refusal.Remedy = fmt.Sprintf("give %s another PORT, roll it out, then: %s", refusal.holder, r.again())
		}
		return refusal
	}
	defer release()
	if r.new, err = r.store.Copy(earlier); err != nil {
		return err
	}
	r.say(Info, step.Freeze, "generation %d is frozen", r.new.Number)
	return r.begin(ctx, s.plan(earlier.Plan, earlier.Unsized))
}

// before is the newest generation that was ready before the current one, differs from it
// and can still run; nil if none is kept. If a person rolled back to the current one, it
// is older than what that was: to roll back twice goes back two generations. Those
// between them are passed over.
func (m *Machine) before(disk store.Store, current *store.Generation) (earlier *store.Generation, over passed, err error) {
	numbers, err := disk.Generations()
	if err != nil {
		return nil, over, err
	}
	limit := current.Number
	if current.Held() {
		limit = current.CopyOf
	}
	for _, n := range slices.Backward(numbers) {
		if n >= limit {
			continue
		}
		g, err := disk.Generation(n)
		switch {
		case err != nil:
			over.damaged = append(over.damaged, n)
		case !g.Ready:
			over.unready = append(over.unready, n)
		case g.Digest == current.Digest:
			over.same = append(over.same, n)
		case m.gone(disk, g):
			over.gone = append(over.gone, n)
		default:
			return g, over, nil
		}
	}
	return nil, over, nil
}

// gone says that a directory which a generation needs is not there any more.
func (m *Machine) gone(disk store.Store, g *store.Generation) bool {
	for _, dir := range []string{g.WorkingDirectory, disk.ProgramDir(g.Number)} {
		if _, err := os.Stat(m.Layout.Path(dir)); dir != "" && errors.Is(err, fs.ErrNotExist) {
			return true
		}
	}
	return false
}

// foretell says what a rollback brings back, and what it cannot: code that is not
// deployed into a directory of its own is as it is now.
func (m *Machine) foretell(disk store.Store, current, earlier *store.Generation, over passed) {
	say := func(level Level, text string) {
		m.Report(Event{App: current.App, Generation: earlier.Number, Step: step.Rollback, Text: text, Level: level})
	}
	say(Info, fmt.Sprintf("rolling back from generation %d to what generation %d was", current.Number, earlier.Number))
	if why := over.why(current); why != "" {
		say(Info, "passed over: "+why)
	}
	text, level := "", Info
	env, err := disk.Env(earlier.Number)
	now, e := disk.Env(current.Number)
	if err == nil && e == nil {
		text = "what comes back: " + strings.Join(earlier.Since(current, env, now).Names(), ", ") + "; "
	}
	switch program := disk.ProgramDir(earlier.Number); {
	case earlier.WorkingDirectory != current.WorkingDirectory:
		text += "the code is what lies in " + earlier.WorkingDirectory
	case program != disk.ProgramDir(current.Number):
		text += "the program is what lies in " + program
	case earlier.InPlace || current.InPlace:
		text += "the code does not come back: it is what lies in " + earlier.WorkingDirectory + " now"
		level = Warning
	case earlier.WorkingDirectory == "/":
		text += "the code stays as it is now"
	default:
		text += "the code stays what lies in " + earlier.WorkingDirectory
	}
	say(level, text)
}

// nothingBefore is the error of a rollback that finds nothing to go back to.
func nothingBefore(app string, current *store.Generation, over passed) error {
	why := over.why(current)
	if why == "" {
		why = "no generation is kept that was ready before this one"
	}
	remedy := "let its .env ask for what is to serve, then: "
	if current.InPlace && len(over.same) > 0 {
		remedy = "put the code that is to serve into " + current.WorkingDirectory + ", then: "
	}
	return told(app+" has nothing to roll back to: "+why, remedy+rerun(app, current))
}

// passed are the numbers of generations that a rollback does not go back to, by the
// reason.
type passed struct{ same, unready, gone, damaged []int }

// why says why a rollback from a generation passes over them, "" if there are none.
func (p passed) why(current *store.Generation) string {
	var reasons []string
	add := func(numbers []int, one, many string) {
		switch {
		case len(numbers) == 1:
			reasons = append(reasons, fmt.Sprintf("generation %d %s", numbers[0], one))
		case len(numbers) > 1:
			slices.Sort(numbers)
			reasons = append(reasons, "generations "+strings.Trim(fmt.Sprint(numbers), "[]")+" "+many)
		}
	}
	from := fmt.Sprintf(" not differ from generation %d", current.Number)
	add(p.same, "does"+from, "do"+from)
	add(p.unready, "was never ready", "were never ready")
	add(p.gone, "ran in a directory that is gone", "ran in directories that are gone")
	add(p.damaged, "cannot be read", "cannot be read")
	return strings.Join(reasons, "; ")
}
