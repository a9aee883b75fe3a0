package rollout

import (
	"context"
	"slices"
	"strings"

	"app-rollout/rollout-helper/systemd"
	"app-rollout/units"
)

// patterns match all units of an app, in both modes.
func patterns(app string) []string {
	return []string{units.Service(app), app + "@*.service"}
}

// number is the instance number in the name of an app's unit, 0 for the one service
// of mode 0. It is false for a unit that is not one of the app's.
func number(app, unit string) (int, bool) {
	if !strings.HasPrefix(unit, app) {
		return 0, false
	}
	i, ok := units.ParseInstance(unit)
	return i.Number, ok && i.App == app
}

// unitNames are the names of the units of instances.
func unitNames(all []units.Instance) []string {
	var names []string
	for _, i := range all {
		names = append(names, i.Unit())
	}
	return names
}

// refresh is Units for those who look again and again; see Refresh of package
// systemd.
func (m *Machine) refresh(ctx context.Context, app string) ([]systemd.Unit, error) {
	all, err := m.Systemd.Refresh(ctx, patterns(app)...)
	return own(app, all), err
}

// own are those of the units that are the app's, in the order of their numbers.
func own(app string, all []systemd.Unit) []systemd.Unit {
	all = slices.DeleteFunc(all, func(u systemd.Unit) bool {
		_, ok := number(app, u.Name)
		return !ok
	})
	slices.SortFunc(all, func(a, b systemd.Unit) int {
		x, _ := number(app, a.Name)
		y, _ := number(app, b.Name)
		return x - y
	})
	return all
}

// Units are all units of an app that systemd has loaded, in the order of their
// numbers, whether or not they run.
func (m *Machine) Units(ctx context.Context, app string) ([]systemd.Unit, error) {
	all, err := m.Systemd.Units(ctx, patterns(app)...)
	return own(app, all), err
}

// unit is one unit. It is inactive if systemd has not loaded it.
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

// verb is one if it stands beside one unit, else many.
func verb(names []string, one, many string) string {
	if len(names) == 1 {
		return one
	}
	return many
}

// list names units for a person, as systemctl takes them.
func list(names []string) string {
	short := make([]string, len(names))
	for i, n := range names {
		short[i] = strings.TrimSuffix(n, ".service")
	}
	return strings.Join(short, " ")
}
