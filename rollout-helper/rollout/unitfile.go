package rollout

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"app-rollout/units"
	"app-rollout/units/problem"
	"app-rollout/units/store"
)

// writeUnits gives units a file of their own with a generation's frozen unit. systemd
// prefers it to the generator's template. So no daemon-reload changes these units any
// more, and none is needed to start or to forget them. changed reports whether a file
// was written.
func (m *Machine) writeUnits(app string, generation int, names []string) (changed bool, err error) {
	if len(names) == 0 {
		return false, nil
	}
	text, err := store.Of(m.Layout, app).Unit(generation)
	if err != nil {
		return false, err
	}
	damaged := !isUnitOf(text, app, generation)
	for _, name := range names {
		// A file that is right is left alone: systemd would want a daemon-reload for a
		// newer one.
		has, err := os.ReadFile(m.Layout.UnitFile(name))
		if err == nil && isUnitOf(has, app, generation) && (damaged || bytes.Equal(frozenOf(has), text)) {
			continue
		}
		if damaged {
			return changed, &damagedUnit{problem.Problem{
				Path: filepath.Join(store.Of(m.Layout, app).Dir(generation), "unit"),
				Text: "is damaged", Remedy: "start the app anew: app-rollout run " + app,
			}}
		}
		if err := writeUnit(m.Layout.UnitFile(name), ownUnit(text)); err != nil {
			return changed, err
		}
		changed = true
	}
	return changed, nil
}

// damagedUnit says that a frozen unit is no unit any more.
type damagedUnit struct{ problem.Problem }

func (r *rollout) writeUnits(generation int, names []string) error {
	_, err := r.Machine.writeUnits(r.app, generation, names)
	return err
}

// ownUnit is the text of such a file. Nothing wants the unit, so every
// `systemctl isolate` would stop it. Only that of the rescue target is to stop it.
func ownUnit(unit []byte) []byte {
	return bytes.Replace(unit, []byte("[Unit]\n"), []byte("[Unit]\n"+strings.Join(ownLines, "\n")+"\n"), 1)
}

var ownLines = []string{"IgnoreOnIsolate=yes", "Conflicts=rescue.target"}

// isUnitOf reports whether such a file is a generation's, whichever version of this
// program wrote it.
func isUnitOf(text []byte, app string, generation int) bool {
	source := "\nSourcePath=" + units.SourcePath(app, generation) + "\n"
	return bytes.Contains(text, []byte(source)) && !bytes.HasSuffix(text, []byte(comingBack))
}

// comingBack marks a unit file that brings the old generation back. As long as it is
// there, also after a kill, a run knows that the service was exchanged.
const comingBack = "# It is being brought back by app-rollout.\n"

// writeUnit writes a unit file that everybody may read, as a whole or not at all.
func writeUnit(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp := path + ".tmp" // systemd ignores it: it is not the name of a unit
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	// The umask must not keep an ordinary user's `systemctl cat` from reading it.
	if err := errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		os.Remove(tmp)
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		os.Remove(tmp)
		return err
	}
	return nil
}

// unitFiles are the app's units that have a file of ours.
func (m *Machine) unitFiles(app string) ([]string, error) {
	all, err := m.Layout.UnitFiles()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, name := range all {
		if _, ok := number(app, name); !ok {
			continue
		}
		text, err := os.ReadFile(m.Layout.UnitFile(name))
		if err != nil {
			return nil, err
		}
		// Other files with such names are the admin's.
		if bytes.HasPrefix(text, []byte(units.Header)) {
			names = append(names, name)
		}
	}
	return names, nil
}
