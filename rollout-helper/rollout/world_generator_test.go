package rollout

import (
	"os"
	"regexp"
	"slices"

	"app-rollout/rollout-helper/systemd"
	"app-rollout/units"
)

var sourceOf = regexp.MustCompile(`(?m)^SourcePath=(.*)$`)

// reload makes systemd read all units anew: each takes its text, and the target
// of the boot wants what the generator says.
func (w *world) reload() {
	w.template = map[string]string{}
	for _, name := range []string{"shop.service", "shop@.service"} {
		w.template[name] = w.text(name)
	}
	for _, u := range w.units {
		u.WantedBy = nil
	}
	for _, name := range w.wanted() {
		if w.units[name] == nil {
			w.units[name] = &fakeUnit{Unit: systemd.Unit{Name: name, Load: "loaded", Active: "inactive", Sub: "dead"}}
		}
		w.units[name].WantedBy = []string{units.Target}
	}
	for name, u := range w.units {
		w.load(u)
		if !u.Live() && (u.text == "" || u.WantedBy == nil) {
			delete(w.units, name)
		}
	}
}

// wanted are the instances that the generator makes the target of the boot want.
func (w *world) wanted() []string {
	current, err := w.layout.Store("shop").Current()
	if err != nil {
		return nil
	}
	i, err := w.layout.Instances("shop")
	if err != nil {
		return nil
	}
	if current == nil {
		if current, err = units.ReadGeneration(w.layout.Path(generatorDir + "/shop.generation")); err != nil {
			return nil
		}
	}
	numbers := i.Generations[current.Number]
	if len(numbers) == 0 {
		if _, err := os.Lstat(w.layout.Env("shop")); err != nil {
			return nil
		}
		numbers = current.Booted()
	}
	return slices.DeleteFunc(current.Instances("shop", numbers), func(name string) bool {
		_, err := os.Stat(w.layout.UnitFile(name))
		return err == nil && w.units[name] != nil && w.units[name].Live()
	})
}

// load gives a unit the text that systemd finds for it.
func (w *world) load(u *fakeUnit) {
	if data, err := os.ReadFile(w.layout.UnitFile(u.Name)); err == nil {
		u.text = string(data)
	} else if u.Name == "shop.service" {
		u.text = w.template[u.Name]
	} else {
		u.text = w.template["shop@.service"]
	}
	u.Source = ""
	if m := sourceOf.FindStringSubmatch(u.text); m != nil {
		u.Source = m[1]
	}
}

// text is what systemd would find for a unit if it read all anew: our file, or
// what the generator emits for the current generation.
func (w *world) text(name string) string {
	if data, err := os.ReadFile(w.layout.UnitFile(name)); err == nil {
		return string(data)
	}
	store := w.layout.Store("shop")
	if current, err := store.Current(); err == nil && current != nil {
		if (current.Mode == 0) == (name == "shop.service") {
			text, _ := store.Unit(current.Number)
			return string(text)
		}
	} else if text, err := os.ReadFile(w.layout.Path(generatorDir + "/shop.generation/unit")); err == nil {
		return string(text)
	}
	return ""
}
