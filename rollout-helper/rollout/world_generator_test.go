package rollout

import (
	"errors"
	"io/fs"
	"os"
	"regexp"
	"slices"

	"app-rollout/rollout-helper/systemd"
	"app-rollout/units"
	"app-rollout/units/store"
)

var sourceOf = regexp.MustCompile(`(?m)^SourcePath=(.*)$`)

// reload makes systemd read all units anew: each takes its text, and the target
// of the boot wants what the generator says.
func (w *world) reload() {
	w.template = map[string]string{}
	for _, name := range []string{"shop.service", "shop@.service"} {
		path := w.layout.Path(units.GeneratorDir + "/" + name)
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			w.t.Fatal(err)
		}
		if w.template[name] = w.made(name); w.template[name] != "" {
			if err := os.WriteFile(path, []byte(w.template[name]), 0o644); err != nil {
				w.t.Fatal(err)
			}
		}
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

// soft reboots without the kernel: all units are stopped, /run stays.
func (w *world) soft() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.breaks("")
	w.units, w.known, w.led, w.calls = map[string]*fakeUnit{}, nil, nil, nil
	w.reload()
	for _, name := range w.wanted() {
		if _, err := w.begin(name); err != nil {
			w.t.Fatal(err)
		}
		w.units[name].proved = true // nothing else serves
	}
}

// wanted are the instances that the generator makes the target of the boot want.
func (w *world) wanted() []string {
	current, err := store.Of(w.layout, "shop").Current()
	if err != nil || current == nil {
		return nil
	}
	i, err := store.Of(w.layout, "shop").Instances()
	if err != nil {
		return nil
	}
	numbers := i.Generations[current.Number]
	if len(numbers) == 0 {
		if !w.asked() {
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
// what the generator makes.
func (w *world) text(name string) string {
	if data, err := os.ReadFile(w.layout.UnitFile(name)); err == nil {
		return string(data)
	}
	return w.made(name)
}

// made is what the generator makes for a unit: the current generation's, or that
// of the .env of an app that has none.
func (w *world) made(name string) string {
	if name != "shop.service" {
		name = "shop@.service"
	}
	disk := store.Of(w.layout, "shop")
	current, err := disk.Current()
	if err != nil {
		return ""
	}
	if current == nil {
		dir := w.layout.Path(units.FirstGeneration(units.GeneratorDir, "shop"))
		if current, err = store.ReadGeneration(dir); err != nil || current.Unit("shop") != name {
			return ""
		}
		text, _ := os.ReadFile(dir + "/unit")
		return string(text)
	}
	if i, err := store.Of(w.layout, "shop").Instances(); err != nil || len(i.Generations[current.Number]) == 0 && !w.asked() || current.Unit("shop") != name {
		return ""
	}
	text, _ := disk.Unit(current.Number)
	return string(text)
}

// asked says that there is an .env.
func (w *world) asked() bool {
	_, err := os.Lstat(w.layout.Env("shop"))
	return err == nil
}
