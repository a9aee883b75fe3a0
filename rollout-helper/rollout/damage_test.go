package rollout

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"app-rollout/units"
	"app-rollout/units/store"
)

// damage is what is done to the store of a running app.
type damage struct {
	name string
	do   func(w *world) error
	why  string // "" if nothing is wrong
	mend func(w *world) error
}

// storeDir is where the app's generations lie.
func storeDir(w *world) string { return w.layout.State("shop") }

// away does what the lines say: first the directory goes, then the link.
func away(w *world) error {
	err := os.Rename(storeDir(w)+"/generations/1", storeDir(w)+"/broken")
	if e := w.machine().Swap(w.t.Context(), "shop"); e == nil || !strings.Contains(e.Error(), "remove it and start anew: app-rollout run shop") {
		w.t.Errorf("without the generation: %v", e)
	}
	return errors.Join(err, os.Remove(storeDir(w)+"/current"))
}

var damages = []damage{
	{"the record is cut off", func(w *world) error { return os.Truncate(storeDir(w)+"/generations/1/generation.json", 40) },
		"generation.json: is damaged", away},
	{"the record is garbage", func(w *world) error {
		return os.WriteFile(storeDir(w)+"/generations/1/generation.json", []byte("\x00\x00\x00\x00"), 0o600)
	}, "generation.json: is damaged", away},
	{"the record is another's", func(w *world) error {
		return os.WriteFile(storeDir(w)+"/generations/1/generation.json", []byte(`{"app":"shop","generation":7,"nodes":2,"mode":1,"digest":"x"}`), 0o600)
	}, "belongs to another generation", away},
	{"the unit is gone", func(w *world) error { return os.Remove(storeDir(w) + "/generations/1/unit") },
		"unit: is missing", away},
	{"the unit is garbage", func(w *world) error {
		return os.WriteFile(storeDir(w)+"/generations/1/unit", []byte("x"), 0o600)
	}, "", nil},
	{"current dangles", func(w *world) error { return os.Rename(storeDir(w)+"/generations/1", storeDir(w)+"/elsewhere") },
		"leads to a generation that is gone", func(w *world) error { return os.Remove(storeDir(w) + "/current") }},
	{"current dangles, and is put right", func(w *world) error {
		return errors.Join(os.Remove(storeDir(w)+"/current"), os.Symlink("generations/9", storeDir(w)+"/current"))
	}, "leads to a generation that is gone", func(w *world) error {
		return errors.Join(os.Remove(storeDir(w)+"/current"), os.Symlink("generations/1", storeDir(w)+"/current"))
	}},
	{"current leads to nowhere", func(w *world) error {
		return errors.Join(os.Remove(storeDir(w)+"/current"), os.Symlink("/etc", storeDir(w)+"/current"))
	}, "does not lead to a generation", func(w *world) error { return os.Remove(storeDir(w) + "/current") }},
	{"the numbers are garbage", func(w *world) error {
		return os.WriteFile(w.layout.Run("shop")+"/instances.json", []byte("{"), 0o600)
	}, "is damaged; remove it", func(w *world) error { return os.Remove(w.layout.Run("shop") + "/instances.json") }},
	{"a generation half written", func(w *world) error {
		return errors.Join(os.Mkdir(storeDir(w)+"/generations/new", 0o700), os.WriteFile(storeDir(w)+"/generations/new/env", nil, 0o600))
	}, "", nil},
	{"a generation half removed", func(w *world) error {
		return errors.Join(os.Mkdir(storeDir(w)+"/generations/7", 0o700), os.WriteFile(storeDir(w)+"/generations/7/env", nil, 0o600))
	}, "", nil},
	{"a commit half done", func(w *world) error { return os.Symlink("generations/1", storeDir(w)+"/current.tmp") }, "", nil},
	{"files half written", func(w *world) error {
		return errors.Join(os.WriteFile(storeDir(w)+"/next.17.tmp", []byte("4"), 0o600),
			os.WriteFile(storeDir(w)+"/generations/1/generation.json.17.tmp", []byte("{"), 0o600),
			os.WriteFile(w.layout.Run("shop")+"/instances.json.17.tmp", []byte("{"), 0o600),
			os.WriteFile(w.layout.UnitFile("shop@7.service.tmp"), []byte(units.Header), 0o600))
	}, "", nil},
	{"the next number is lost", func(w *world) error { return os.Remove(storeDir(w) + "/next") }, "", nil},
	{"the next number is garbage", func(w *world) error { return os.WriteFile(storeDir(w)+"/next", []byte("x"), 0o600) }, "", nil},
	{"rejected names one that is gone", func(w *world) error { return os.WriteFile(storeDir(w)+"/rejected", []byte("12\n"), 0o600) }, "", nil},
}

// TestDamage: whatever a power cut or a person does to the store, it is told,
// nothing is touched, and what a person is told to do mends it.
func TestDamage(t *testing.T) {
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { holdsDamage(t, d) })
		})
	}
}

func holdsDamage(t *testing.T, d damage) {
	w := up(t)
	for _, u := range w.units {
		u.proved = true
	}
	w.check = func() { w.holds(t, 2) }
	if err := d.do(w); err != nil {
		t.Fatal(err)
	}
	files := w.files()
	m := w.machine()
	w.env("NEW=1")
	err := m.Swap(t.Context(), "shop")
	if d.why == "" {
		if err != nil {
			t.Fatal(err)
		}
		w.clean(t)
		w.settled(t, scenario{asks: []string{""}})
		return
	}
	if err == nil || !strings.Contains(err.Error(), d.why) || strings.Contains(err.Error(), "\n") {
		t.Fatalf("Swap = %v, want %q", err, d.why)
	}
	_ = m.Recover(t.Context(), "shop")
	_ = m.Boot(t.Context(), "shop")
	_ = m.Rollback(t.Context(), "shop")
	if got, want := w.running(), "shop@1/1 shop@2/1"; got != want {
		t.Errorf("%s run, want %s", got, want)
	}
	for _, f := range files {
		if _, err := os.Lstat(f); err != nil {
			t.Errorf("removed: %s", f)
		}
	}
	if err := d.mend(w); err != nil {
		t.Fatal(err)
	}
	// Nobody knows any more what it is that runs, but it serves.
	w.check = func() {
		if n := len(strings.Fields(w.up())); n < 2 {
			t.Errorf("at call %d of %v only %d instances run", len(w.calls), tail(w.calls), n)
		}
	}
	if err := m.Swap(t.Context(), "shop"); err != nil {
		t.Fatalf("mended, but: %v", err)
	}
	w.clean(t)
	w.settled(t, scenario{asks: []string{""}})
}

// files are all files of the store.
func (w *world) files() (files []string) {
	err := filepath.WalkDir(w.layout.State("shop"), func(path string, _ os.DirEntry, err error) error {
		files = append(files, path)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return files
}

// TestCommitFails: what the disk refuses at the last moment goes back like any
// other failure, and is never taken for a generation that was ready.
func TestCommitFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := up(t)
		for _, u := range w.units {
			u.proved = true
		}
		w.check = func() { w.holds(t, 2) }
		obstacle := w.layout.State("shop") + "/current.tmp/x"
		if err := os.MkdirAll(obstacle, 0o700); err != nil {
			t.Fatal(err)
		}
		w.env("NEW=1")
		m := w.machine()
		if err := m.Swap(t.Context(), "shop"); err == nil || !strings.Contains(err.Error(), "generation 1 still serves") {
			t.Fatalf("Swap = %v", err)
		}
		if got, want := w.running(), "shop@1/1 shop@2/1"; got != want {
			t.Errorf("%s run, want %s", got, want)
		}
		if rejected, err := store.Of(w.layout, "shop").Rejected(); rejected != nil || err != nil {
			t.Errorf("rejected for what is not its own fault: %+v, %v", rejected, err)
		}
		if err := os.RemoveAll(filepath.Dir(obstacle)); err != nil {
			t.Fatal(err)
		}
		w.settled(t, scenario{asks: []string{""}})
		if err := m.Rollback(t.Context(), "shop"); err == nil {
			t.Error("rolled back to what was never ready")
		}
	})
}
