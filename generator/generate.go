package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"app-rollout/units"
)

// wants is the directory whose links start units at boot.
const wants = "multi-user.target.wants"

// generation is one run: from the apps' files to units in out.
//
// Invariants: whatever is wrong with one app changes nothing of another's
// output; a unit is there whole or not at all; two runs over the same files
// leave the same bytes.
type generation struct {
	layout units.Layout
	out    string // absolute
	say    func(level, error)
	failed bool
	app    atomic.Value // of string: the app under way
}

// at says what is under way.
func (g *generation) at() string {
	if app, ok := g.app.Load().(string); ok {
		return g.layout.Env(app)
	}
	return units.EtcDir
}

func (g *generation) fail(err error) {
	g.failed = true
	for _, one := range units.Each(err) {
		g.say(failure, one)
	}
}

// run generates everything and reports whether all went well.
func (g *generation) run() bool {
	// The modes below are the modes of the files, whatever PID 1's umask is.
	defer unix.Umask(unix.Umask(0))

	names, problems, err := units.AppNames(g.layout)
	if err != nil {
		g.fail(err)
	}
	for _, p := range problems {
		g.fail(p)
	}
	stored, storeErr := g.layout.Stored()
	if len(names) == 0 && len(stored) == 0 {
		return !g.failed
	}
	if errors.Is(storeErr, fs.ErrNotExist) {
		g.say(notice, errors.New(units.StateDir+" is not there yet; app-rollout-boot.service starts the apps when it is"))
		return !g.failed
	}
	if storeErr != nil {
		g.fail(storeErr)
		return false
	}

	// Recorded apps come first: they only have to be copied. Then those that
	// are cheap to read, and last those that may use up the time.
	all := slices.Concat(names, stored)
	slices.Sort(all)
	var fresh []string
	for _, app := range slices.Compact(all) {
		g.app.Store(app)
		asked := slices.Contains(names, app) || err != nil
		current, err := g.layout.Store(app).Current()
		switch {
		case err != nil:
			g.fail(err)
		case current != nil:
			g.recorded(app, current, asked)
		case asked:
			fresh = append(fresh, app)
		}
	}
	// Of those that may take long, the smallest first: a hostile one is large.
	type costly struct {
		app  string
		size int
	}
	var later []costly
	for _, app := range fresh {
		if src := g.source(app); src != nil && src.Costly() {
			later = append(later, costly{app, len(src.Text)})
		} else if src != nil {
			g.first(src)
		}
	}
	slices.SortStableFunc(later, func(a, b costly) int { return a.size - b.size })
	for _, c := range later {
		if src := g.source(c.app); src != nil {
			g.first(src)
		}
	}
	return !g.failed
}

// source reads an app's .env; nil if that is not to be had.
func (g *generation) source(app string) *units.Source {
	g.app.Store(app)
	src, err := g.layout.ReadSource(app)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // else gone since it was listed
		g.fail(err)
	}
	return src
}

// recorded emits the current generation of an app as it was frozen; its .env
// is not even looked at. An app whose .env is gone is emitted while it runs,
// until the next rollout stops it, but is not booted again.
func (g *generation) recorded(app string, current *units.Generation, asked bool) {
	instances, err := g.layout.Instances(app)
	if err != nil {
		g.fail(err)
	}
	numbers := instances.Generations[current.Number]
	if len(numbers) == 0 {
		if !asked {
			return
		}
		numbers = current.Booted()
	}
	text, err := g.layout.Store(app).Unit(current.Number)
	if err != nil {
		g.fail(err)
		return
	}
	if !bytes.HasPrefix(text, []byte(units.Header)) {
		g.fail(&units.Problem{Path: g.layout.Store(app).Dir(current.Number) + "/unit", Text: "is damaged; start the app anew: app-rollout run " + app})
		return
	}
	if err := g.layout.Shadows(app); err != nil {
		g.fail(err)
		return
	}
	g.emit(app, current.Plan, text, numbers)
}

// first emits an app that was never rolled out, from its .env. What it is
// started from is frozen in the output directory, for the boot service to
// adopt; systemd takes no notice of a directory of that name.
func (g *generation) first(src *units.Source) {
	spec, err := g.layout.Check(src)
	if err == nil {
		err = g.layout.Shadows(src.App)
	}
	if err != nil {
		g.fail(err)
		return
	}
	dir := filepath.Join(g.out, src.App+".generation")
	tmp := fmt.Sprintf("%s/.%s.%d", g.out, filepath.Base(dir), os.Getpid())
	if err := os.RemoveAll(tmp); err != nil {
		g.fail(err)
		return
	}
	// No time stands in it, so that two runs write the same.
	if _, err := units.Freeze(tmp, dir, spec, 1, time.Time{}); err != nil {
		os.RemoveAll(tmp)
		g.fail(err)
		return
	}
	if err := place(tmp, dir); err != nil {
		os.RemoveAll(tmp)
		g.fail(err)
		return
	}
	g.emit(src.App, spec.Plan, []byte(spec.Unit(dir)), spec.Plan.Booted())
}

// place gives a complete directory its name. If it is there from an earlier
// run, or one at the same time, the two change places in one step.
func place(tmp, dir string) error {
	err := os.Rename(tmp, dir)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, dir, unix.RENAME_EXCHANGE); err != nil {
		return &os.LinkError{Op: "rename", Old: tmp, New: dir, Err: err}
	}
	return os.RemoveAll(tmp)
}

// emit writes the unit, and then the links that start it.
func (g *generation) emit(app string, plan units.Plan, text []byte, numbers []int) {
	unit := units.Instance(app, 0)
	if plan.Mode == 1 {
		unit = units.Template(app)
	}
	if err := g.write(unit, text); err != nil {
		g.fail(err)
		return
	}
	if err := os.Mkdir(filepath.Join(g.out, wants), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		g.fail(err)
		return
	}
	for _, name := range plan.Instances(app, numbers) {
		link := filepath.Join(g.out, wants, name)
		if err := os.Symlink("../"+unit, link); err != nil && !errors.Is(err, fs.ErrExist) {
			g.fail(err)
		}
	}
}

// write makes a file of mode 0644 that is never seen in part.
func (g *generation) write(name string, text []byte) error {
	tmp := fmt.Sprintf("%s/.%s.%d", g.out, name, os.Getpid())
	if err := os.WriteFile(tmp, text, 0o644); err != nil {
		os.Remove(tmp)
		return err
	}
	if err := os.Rename(tmp, filepath.Join(g.out, name)); err != nil {
		os.Remove(tmp)
		return err
	}
	return nil
}
