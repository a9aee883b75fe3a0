package rollout

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"app-rollout/units"
	"app-rollout/units/store"
)

// bootID is the kernel's id of each boot, as in a container that has that of its host.
const bootID = "0123456789abcdef0123456789abcdef"

// kernel writes what the kernel says of the n-th boot.
func (w *world) kernel(n int) {
	w.t.Helper()
	for path, text := range map[string]string{
		"/proc/sys/kernel/random/boot_id": bootID + "\n",
		"/proc/1/stat":                    fmt.Sprintf("1 (a ) b) S 0 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 %d 0 0\n", n),
	} {
		path = w.layout.Path(path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			w.t.Fatal(err)
		}
	}
}

// reboot cuts the power and boots again: what lies in /run is gone, and the
// generator's units are started, if the app has been ready.
func (w *world) reboot() {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, dir := range []string{units.RunDir, units.UnitDir, units.GeneratorDir} {
		if err := errors.Join(os.RemoveAll(w.layout.Path(dir)), os.MkdirAll(w.layout.Path(dir), 0o755)); err != nil {
			w.t.Fatal(err)
		}
	}
	w.boots++
	w.kernel(w.boots)
	w.breaks("")
	w.units, w.known, w.led, w.calls = map[string]*fakeUnit{}, nil, nil, nil
	current, err := store.Of(w.layout, "shop").Current()
	if err != nil {
		w.t.Fatal(err)
	}
	if current == nil {
		spec, err := w.layout.Read("shop")
		if err != nil {
			return
		}
		inside := units.FirstGeneration(units.GeneratorDir, "shop")
		if _, err = store.Freeze(w.layout.Path(inside), inside, spec, 1, time.Time{}); err != nil {
			w.t.Fatal(err)
		}
		w.reload()
		return
	}
	if _, err := os.Stat(w.layout.Env("shop")); err != nil {
		return
	}
	w.reload()
	for _, name := range current.Instances("shop", current.Booted()) {
		if _, err := w.begin(name); err != nil {
			w.t.Fatal(err)
		}
		w.units[name].proved = true // nothing else serves
	}
}
