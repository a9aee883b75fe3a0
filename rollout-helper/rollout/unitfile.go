package rollout

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"app-rollout/units"
	"app-rollout/units/store"
)

// pin gives units a file of their own with a generation's frozen unit, above
// the generator's template: no daemon-reload changes them any more, and none is
// needed to start or to forget them. It says whether any file was changed.
func (m *Machine) pin(app string, generation int, names []string) (changed bool, err error) {
	if len(names) == 0 {
		return false, nil
	}
	text, err := store.Of(m.Layout, app).Unit(generation)
	if err != nil {
		return false, err
	}
	for _, name := range names {
		// One that is right is left: a newer one would want a daemon-reload.
		if has, err := os.ReadFile(m.Layout.UnitFile(name)); err == nil && pins(has, app, generation) {
			continue
		}
		if err := writeUnit(m.Layout.UnitFile(name), pinned(text)); err != nil {
			return changed, err
		}
		changed = true
	}
	return changed, nil
}

func (r *rollout) pin(generation int, names []string) error {
	_, err := r.Machine.pin(r.app, generation, names)
	return err
}

// pinned is the text of such a file. As the unit is wanted by nothing, every
// isolate would stop it; that of the targets for repairs is to.
func pinned(unit []byte) []byte {
	return bytes.Replace(unit, []byte("[Unit]\n"), []byte("[Unit]\nIgnoreOnIsolate=yes\nConflicts=rescue.target\n"), 1)
}

// pins says whether the text of such a file is that of a generation, by
// whatever version of this program it was written.
func pins(text []byte, app string, generation int) bool {
	source := "\nSourcePath=" + units.SourcePath(app, generation) + "\n"
	return bytes.Contains(text, []byte(source)) && !bytes.HasSuffix(text, []byte(coming))
}

// coming marks a unit file that brings the old generation back: by it is seen,
// until it is tidied away, that the service was exchanged, even by a run after
// one that was killed.
const coming = "# It is being brought back by app-rollout.\n"

// writeUnit writes a unit file that everybody may read, at once or not at all.
func writeUnit(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp := path + ".tmp" // no unit's name, so systemd does not look at it
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	// Whatever the umask: an ordinary user's `systemctl cat` reads it.
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

// unitFiles are the app's units that have a file written by pin.
func (m *Machine) unitFiles(app string) ([]string, error) {
	entries, err := os.ReadDir(m.Layout.Path(units.UnitDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if _, ok := number(app, e.Name()); !ok || !e.Type().IsRegular() {
			continue
		}
		text, err := os.ReadFile(m.Layout.UnitFile(e.Name()))
		if err != nil {
			return nil, err
		}
		// One that the admin put there is not ours.
		if bytes.HasPrefix(text, []byte(units.Header)) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
