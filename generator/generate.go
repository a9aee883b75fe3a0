package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"app-rollout/units"
	"app-rollout/units/problem"
	"app-rollout/units/store"
)

// wants is the directory whose links start units at boot.
const wants = units.Target + ".wants"

// generation is one run: from the apps' files to units in out.
//
// Invariants: whatever is wrong with one app changes nothing of another's
// output; a unit is there whole or not at all; two runs over the same files
// leave the same bytes.
type generation struct {
	layout units.Layout
	out    string // absolute
	say    func(level, error)

	mu     sync.Mutex
	failed bool
	under  map[string]bool    // the apps under way
	wrong  map[string][]error // what is wrong with an app, until it is said
}

// run generates everything and reports whether all went well. It calls copied
// when the apps that were recorded are done.
func (g *generation) run(copied func()) bool {
	// The modes below are the modes of the files, whatever PID 1's umask is.
	defer unix.Umask(unix.Umask(0))

	names, problems, err := units.AppNames(g.layout)
	if err != nil {
		g.fail(err)
	}
	for _, p := range problems {
		g.fail(p)
	}
	stored, storeErr := store.Apps(g.layout)
	if len(names) == 0 && len(stored) == 0 {
		return !g.failed
	}
	if errors.Is(storeErr, fs.ErrNotExist) {
		g.say(notice, errors.New(units.StateDir+" is not there or not mounted yet; app-rollout-boot.service starts the apps when it is"))
		return !g.failed
	}
	if storeErr != nil {
		g.fail(storeErr)
		return false
	}

	// Recorded apps come first: they only have to be copied. Then those that
	// are cheap to read, and last those that may take long, the smallest first:
	// a hostile one is large.
	unlisted := err != nil // then every app that is stored counts as asked for
	all := slices.Concat(names, stored)
	slices.Sort(all)
	fresh := g.each(slices.Compact(all), func(app string) (later int, err error) {
		_, asked := slices.BinarySearch(names, app)
		asked = asked || unlisted
		current, err := store.Of(g.layout, app).Current()
		switch {
		case err != nil:
			return 0, err
		case current != nil:
			return 0, g.recorded(app, current, asked)
		case asked:
			return 1, nil
		}
		return 0, nil
	})
	copied()
	costly := g.each(fresh, func(app string) (later int, err error) {
		src, err := g.source(app)
		switch {
		case err != nil || src == nil:
			return 0, err
		case src.Costly():
			return len(src.Text), nil
		}
		return 0, g.first(src)
	})
	g.each(costly, func(app string) (int, error) {
		src, err := g.source(app)
		if err != nil || src == nil {
			return 0, err
		}
		return 0, g.first(src)
	})
	return !g.failed
}

// each does something with every app, as many at a time as there are CPUs, and
// says in order what was wrong. It returns the apps that do puts off, by how
// much each weighs.
func (g *generation) each(apps []string, do func(app string) (later int, err error)) []string {
	weights := make([]int, len(apps))
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(runtime.NumCPU(), len(apps)) {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for {
				i := int(next.Add(1)) - 1
				if i >= len(apps) {
					return
				}
				g.begin(apps[i])
				var err error
				weights[i], err = do(apps[i])
				g.end(apps[i], err)
			}
		}()
	}
	workers.Wait()
	g.tell()

	var later []int
	for i, w := range weights {
		if w > 0 {
			later = append(later, i)
		}
	}
	slices.SortStableFunc(later, func(a, b int) int { return weights[a] - weights[b] })
	put := make([]string, len(later))
	for i, at := range later {
		put[i] = apps[at]
	}
	return put
}

func (g *generation) begin(app string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.under[app] = true
}

func (g *generation) end(app string, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.under, app)
	if err != nil {
		g.wrong[app] = problem.Each(err)
	}
}

// tell says what is wrong with each app, in the order of their names.
func (g *generation) tell() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, app := range slices.Sorted(maps.Keys(g.wrong)) {
		g.failed = true
		for _, err := range g.wrong[app] {
			// Of what a link led to, nobody could tell whose it is.
			if text := err.Error(); !strings.Contains(text, units.EtcDir+"/"+app+".env") && !strings.Contains(text, units.StateDir+"/"+app+"/") {
				err = fmt.Errorf("%s: %w", app, err)
			}
			g.say(failure, err)
		}
	}
	clear(g.wrong)
}

// fail says at once what is wrong with no app in particular.
func (g *generation) fail(err error) {
	g.failed = true
	for _, one := range problem.Each(err) {
		g.say(failure, one)
	}
}

// giveUp says how far it got.
func (g *generation) giveUp() {
	g.tell()
	g.mu.Lock()
	defer g.mu.Unlock()
	at := ""
	if len(g.under) > 0 {
		at = " at " + strings.Join(slices.Sorted(maps.Keys(g.under)), ", ")
	}
	g.say(failure, fmt.Errorf("%s: gave up%s, since it takes too long; what comes after is not generated; see app-rollout check", units.EtcDir, at))
}

// source reads an app's .env; nil if it is gone since it was listed.
func (g *generation) source(app string) (*units.Source, error) {
	src, err := g.layout.ReadSource(app)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return src, err
}

// recorded emits the current generation of an app as it was frozen; its .env
// is not even looked at. An app whose .env is gone is emitted while it runs,
// until the next rollout stops it, but is not booted again. What a rollout has
// started is not wanted as long as it runs, so that a later one can stop it
// without a daemon-reload; after a soft-reboot it is.
func (g *generation) recorded(app string, current *store.Generation, asked bool) error {
	instances, wrong := store.Of(g.layout, app).Instances()
	numbers := instances.Generations[current.Number]
	if len(numbers) == 0 {
		if !asked {
			return wrong
		}
		numbers = current.Booted()
	}
	text, err := store.Of(g.layout, app).Unit(current.Number)
	if err != nil {
		return errors.Join(wrong, err)
	}
	if !bytes.HasPrefix(text, []byte(units.Header)) {
		return errors.Join(wrong, &units.Problem{Path: store.Of(g.layout, app).Dir(current.Number) + "/unit",
			Text: "is damaged; start the app anew: app-rollout run " + app})
	}
	if err := g.layout.Shadows(app); err != nil {
		return errors.Join(wrong, err)
	}
	wanted := slices.DeleteFunc(current.Instances(app, numbers), g.layout.Rolled)
	return errors.Join(wrong, g.emit(app, current.Plan, text, wanted))
}

// first emits an app that was never rolled out, from its .env. What it is
// started from is frozen in the output directory, for the boot service to
// adopt; systemd takes no notice of a directory of that name.
func (g *generation) first(src *units.Source) error {
	spec, err := g.layout.Check(src)
	if err != nil {
		return err
	}
	if err := g.layout.Shadows(src.App); err != nil {
		return err
	}
	dir := filepath.Join(g.out, src.App+".generation")
	tmp := g.temporary(src.App + ".generation")
	// No time stands in it, so that two runs write the same.
	_, err = store.Freeze(tmp, dir, spec, 1, time.Time{})
	if err == nil {
		err = place(tmp, dir)
	}
	if err != nil {
		os.RemoveAll(tmp)
		return err
	}
	return g.emit(src.App, spec.Plan, []byte(spec.Unit(dir)), spec.Plan.Instances(src.App, spec.Plan.Booted()))
}

// place gives a complete directory its name. If it is there from an earlier
// run, or one at the same time, the two change places in one step.
func place(tmp, dir string) error {
	err := rename(tmp, dir, 0)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := rename(tmp, dir, unix.RENAME_EXCHANGE); err != nil {
		return err
	}
	return os.RemoveAll(tmp)
}

// rename is os.Rename without its look at the new name beforehand.
func rename(from, to string, flags uint) error {
	if err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, flags); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// emit writes the unit, and then the links that start it.
func (g *generation) emit(app string, plan units.Plan, text []byte, wanted []string) error {
	unit := plan.Unit(app)
	if err := g.write(unit, text); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(g.out, wants), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for _, name := range wanted {
		link := filepath.Join(g.out, wants, name)
		if err := os.Symlink("../"+unit, link); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// write makes a file of mode 0644 that is never seen in part.
func (g *generation) write(name string, text []byte) error {
	tmp := g.temporary(name)
	err := store.WriteFile(tmp, text, 0o644)
	if err == nil {
		err = rename(tmp, filepath.Join(g.out, name), 0)
	}
	if err != nil {
		os.Remove(tmp)
	}
	return err
}

// temporary is a name that systemd ignores and no other run uses.
func (g *generation) temporary(name string) string {
	return fmt.Sprintf("%s/.%s.%d", g.out, name, os.Getpid())
}
