package rollout

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"app-rollout/rollout-helper/systemd"
	"app-rollout/units"
)

// patterns match every unit of an app, in both modes.
func patterns(app string) []string {
	return []string{units.Instance(app, 0), app + "@*.service"}
}

// number is the instance number in a unit's name; 0 for the one service of
// mode 0, false for a unit whose instance is no number: it is not ours.
func number(app, unit string) (int, bool) {
	if unit == units.Instance(app, 0) {
		return 0, true
	}
	s, ok := strings.CutPrefix(unit, app+"@")
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(strings.TrimSuffix(s, ".service"))
	return n, err == nil && n > 0 && units.Instance(app, n) == unit
}

// ours are all loaded units of the app, in the order of their numbers.
func (m *Machine) ours(ctx context.Context, app string) ([]systemd.Unit, error) {
	all, err := m.Systemd.Units(ctx, patterns(app)...)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(u systemd.Unit) bool {
		_, ok := number(app, u.Name)
		return !ok
	})
	slices.SortFunc(all, func(a, b systemd.Unit) int {
		x, _ := number(app, a.Name)
		y, _ := number(app, b.Name)
		return x - y
	})
	return all, nil
}

// unit is one unit; one that is not loaded is inactive.
func (m *Machine) unit(ctx context.Context, name string) (systemd.Unit, error) {
	us, err := m.Systemd.Units(ctx, name)
	if err != nil || len(us) == 0 {
		return systemd.Unit{Name: name, Active: "inactive", Load: "not-found"}, err
	}
	return us[0], nil
}

func live(us []systemd.Unit) []string {
	var names []string
	for _, u := range us {
		if u.Live() {
			names = append(names, u.Name)
		}
	}
	return names
}

func without(names, remove []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return slices.Contains(remove, n) })
}

// list names units for a person, as systemctl takes them.
func list(names []string) string {
	short := make([]string, len(names))
	for i, n := range names {
		short[i] = strings.TrimSuffix(n, ".service")
	}
	return strings.Join(short, " ")
}

// pin gives units a file of their own with a generation's frozen unit, above
// the generator's template: no daemon-reload changes them any more, and none is
// needed to start or to forget them. It says whether any file was changed.
func (m *Machine) pin(app string, generation int, names []string) (changed bool, err error) {
	if len(names) == 0 {
		return false, nil
	}
	text, err := m.Layout.Store(app).Unit(generation)
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

func (r *rollout) pin(generation int, names []string) error {
	_, err := r.Machine.pin(r.app, generation, names)
	return err
}

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

// Instances are the units of an app that run, in the order of their numbers.
func (m *Machine) Instances(ctx context.Context, app string) ([]systemd.Unit, error) {
	all, err := m.ours(ctx, app)
	return slices.DeleteFunc(all, func(u systemd.Unit) bool { return !u.Live() }), err
}
