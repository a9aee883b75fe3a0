package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"app-rollout/units"
)

// booted writes what the kernel says of a boot.
func booted(t *testing.T, l units.Layout, id string, start int) {
	t.Helper()
	for path, text := range map[string]string{
		"/proc/sys/kernel/random/boot_id": id + "\n",
		"/proc/1/stat":                    fmt.Sprintf("1 (systemd) S 0 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 %d 0 0\n", start),
	} {
		path = l.Path(path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

// The record outlives the directory in /run, but not the boot, be it of a machine or
// of a container, which has the boot id of its host.
func TestCopyOfInstances(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(t *testing.T, l units.Layout) error
		next int
	}{
		"nothing": {func(*testing.T, units.Layout) error { return nil }, 5},
		"gone":    {func(_ *testing.T, l units.Layout) error { return os.RemoveAll(l.Path(units.RunDir)) }, 5},
		"gone, and cannot be made": {func(_ *testing.T, l units.Layout) error {
			dir := l.Path(units.RunDir)
			return errors.Join(os.RemoveAll(dir), os.Symlink("nowhere", dir), Of(l, "shop").SaveInstances(Instances{Next: 9}))
		}, 9},
		"another boot": {func(t *testing.T, l units.Layout) error {
			booted(t, l, "b", 1)
			return os.RemoveAll(l.Path(units.RunDir))
		}, 1},
		"a container's": {func(t *testing.T, l units.Layout) error {
			booted(t, l, "a", 2)
			return os.RemoveAll(l.Path(units.RunDir))
		}, 1},
		"unknown boot": {func(t *testing.T, l units.Layout) error {
			return errors.Join(os.RemoveAll(l.Path("/proc")), os.RemoveAll(l.Path(units.RunDir)))
		}, 1},
		"damaged": {func(t *testing.T, l units.Layout) error {
			return errors.Join(os.WriteFile(l.State("shop")+"/instances.json", []byte("{"), 0o600), os.RemoveAll(l.Path(units.RunDir)))
		}, 1},
		"only in /run": {func(t *testing.T, l units.Layout) error {
			return os.WriteFile(l.Run("shop")+"/instances.json", []byte(`{"next":7}`), 0o600) // as 0.1.0 does
		}, 7},
	} {
		t.Run(name, func(t *testing.T) {
			l := units.Layout{Root: t.TempDir()}
			booted(t, l, "a", 1)
			if err := os.MkdirAll(l.State("shop"), 0o700); err != nil {
				t.Fatal(err)
			}
			s := Of(l, "shop")
			if err := s.SaveInstances(Instances{Next: 5, Generations: map[int][]int{2: {3, 4}}, Serving: []int{3, 4}}); err != nil {
				t.Fatal(err)
			}
			if err := c.do(t, l); err != nil {
				t.Fatal(err)
			}
			i, err := s.Instances()
			if err != nil || i.Next != c.next || i.Generations == nil || c.next == 5 && !slices.Equal(i.Generations[2], []int{3, 4}) {
				t.Errorf("%+v, %v, want the next %d", i, err, c.next)
			}
		})
	}
}
