package rollout

import (
	"bytes"
	"context"
	"os"
	"slices"

	"app-rollout/units"
	"app-rollout/units/problem"
	"app-rollout/units/store"
)

// Edited are the app's unit files that a rollout has written and somebody has changed
// since. What runs goes on, but a crash would start what the file says by then. A user who
// cannot read the frozen units is told nothing.
func (m *Machine) Edited(app string) (all []*problem.Problem) {
	names, _ := m.unitFiles(app)
	for _, name := range names {
		if m.edited(app, name) {
			all = append(all, &problem.Problem{
				Path:   units.UnitDir + "/" + name,
				Text:   "was changed after a rollout has written it, and is what " + list([]string{name}) + " runs when it is started again",
				Remedy: "app-rollout restart " + app,
			})
		}
	}
	return all
}

func (m *Machine) edited(app, name string) bool {
	text, err := os.ReadFile(m.Layout.UnitFile(name))
	if err != nil {
		return false
	}
	n, ok := units.ParseSourcePath(app, sourceIn(text))
	if !ok {
		return true
	}
	frozen, err := store.Of(m.Layout, app).Unit(n)
	return err == nil && !bytes.Equal(frozenOf(text), frozen)
}

// sourceIn is the SourcePath= in the text of a unit.
func sourceIn(text []byte) string {
	_, from, _ := bytes.Cut(text, []byte("\nSourcePath="))
	from, _, _ = bytes.Cut(from, []byte("\n"))
	return string(from)
}

// frozenOf is the unit that a file was made from, see ownUnit. Older versions of this
// program have added less to it.
func frozenOf(text []byte) []byte {
	text = bytes.TrimSuffix(text, []byte(comingBack))
	for _, line := range ownLines {
		text = bytes.Replace(text, []byte("\n"+line+"\n"), []byte("\n"), 1)
	}
	return text
}

// rewrite gives the one service of mode 0, which is to be restarted, its unit again if
// somebody has changed its file.
func (r *rollout) rewrite(ctx context.Context) error {
	if !slices.ContainsFunc(r.fresh, func(name string) bool { return r.edited(r.app, name) }) {
		return nil
	}
	if err := r.writeUnits(r.new.Number, r.fresh); err != nil {
		return err
	}
	return r.reread(ctx, r.app)
}
