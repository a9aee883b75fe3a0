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

// wants is the directory of the links by which the boot starts units. Only an app that
// has been ready has links in it.
const wants = units.Target + ".wants"

// generator turns the apps' files into units in out, once.
//
// Invariants: an error in one app changes nothing in the output of another; a
// unit is written completely or not at all; two runs over the same files write
// the same bytes.
type generator struct {
	layout units.Layout
	out    string // absolute
	early  string // the directory whose units systemd prefers to all others; see beat
	say    func(level, error)

	mu     sync.Mutex
	failed bool
	under  map[string]bool    // the apps that are being worked on
	wrong  map[string][]error // the errors of each app that tell has not said yet
}

// run generates all units and reports whether all went well. It calls copied
// when it has copied the units of all apps that have a current generation.
func (g *generator) run(copied func()) bool {
	// Files get the modes below, whatever umask PID 1 has.
	defer unix.Umask(unix.Umask(0))

	apps, asked := g.apps()
	if len(apps) == 0 {
		return !g.failed
	}
	// First the apps with a current generation: their units are only copied. Then
	// the apps that are cheap to read. Last those that may take long, the smallest
	// first, because a hostile .env is large.
	fresh := g.each(apps, func(app string) (later int, err error) {
		current, err := store.Of(g.layout, app).Current()
		switch {
		case err != nil:
			return 0, err
		case current != nil:
			return 0, g.recorded(app, current, asked(app))
		case asked(app):
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

// apps are all apps that have an .env or a store, sorted; asked says which of them
// have an .env. It says what is wrong with the lists.
func (g *generator) apps() (all []string, asked func(app string) bool) {
	names, problems, err := units.AppNames(g.layout)
	if err != nil {
		g.fail(err)
	}
	for _, p := range problems {
		g.fail(p)
	}
	unlisted := err != nil // then every app with a store counts as asked for
	stored, err := store.Apps(g.layout)
	switch {
	case len(names) == 0 && len(stored) == 0:
		return nil, nil
	case errors.Is(err, fs.ErrNotExist):
		g.say(notice, errors.New(units.StateDir+" is not there or not mounted yet; app-rollout-boot.service starts the apps when it is"))
		return nil, nil
	case err != nil:
		g.fail(err)
		return nil, nil
	}
	all = slices.Concat(names, stored)
	slices.Sort(all)
	return slices.Compact(all), func(app string) bool {
		_, named := slices.BinarySearch(names, app)
		return named || unlisted
	}
}

// each calls do for every app, for as many at a time as there are CPUs, and then
// says in order what went wrong. For an app that do puts off, it returns a later
// above 0: how much there is to do. each returns these apps, those with the least to
// do first.
func (g *generator) each(apps []string, do func(app string) (later int, err error)) []string {
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

func (g *generator) begin(app string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.under[app] = true
}

func (g *generator) end(app string, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.under, app)
	if err != nil {
		g.wrong[app] = problem.Each(err)
	}
}

// tell says the errors of each app, in the order of the apps' names.
func (g *generator) tell() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, app := range slices.Sorted(maps.Keys(g.wrong)) {
		g.failed = true
		for _, err := range g.wrong[app] {
			// The path behind a link does not show which app it belongs to.
			if path := problem.Of(err).Path; path != units.EnvPath(app) && !strings.HasPrefix(path, g.layout.State(app)+"/") {
				err = fmt.Errorf("%s: %w", app, err)
			}
			g.say(failure, err)
		}
	}
	clear(g.wrong)
}

// fail says an error that belongs to no app.
func (g *generator) fail(err error) {
	g.failed = true
	for _, one := range problem.Each(err) {
		g.say(failure, one)
	}
}

// giveUp says at which apps it ended, how long it has taken, and how much of the CPUs it
// has had. busy says that this was too little.
func (g *generator) giveUp(took, cpu time.Duration, busy bool) {
	g.tell()
	g.mu.Lock()
	defer g.mu.Unlock()
	at, remedy := "", "see app-rollout check"
	if len(g.under) > 0 {
		at = " at " + strings.Join(slices.Sorted(maps.Keys(g.under)), ", ")
	}
	if busy {
		remedy = "when the machine is less busy: systemctl daemon-reload"
	}
	g.say(failure, &problem.Problem{Path: units.EtcDir,
		Text: fmt.Sprintf("gave up%s after %.1f s, and %.1f s of CPU time; what comes after is not generated", at, took.Seconds(), cpu.Seconds()), Remedy: remedy})
}

// source reads an app's .env. It returns nil if the file was removed after it was
// listed.
func (g *generator) source(app string) (*units.Source, error) {
	src, err := g.layout.ReadSource(app)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return src, err
}

// recorded emits the current generation of an app as it was frozen. It does not
// look at the app's .env. If the .env is gone, it emits the app as long as the
// app runs, until the next rollout stops it, but does not boot it again.
//
// It links no instance that a rollout has started and that still runs, so that a
// later rollout can stop that instance without a daemon-reload. After a
// soft-reboot it links it.
func (g *generator) recorded(app string, current *store.Generation, asked bool) error {
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
			Text: "is damaged", Remedy: "start the app anew: app-rollout run " + app})
	}
	shadowed := g.layout.Shadows(app)
	if shadowed != nil {
		if ours, err := g.beat(current, numbers, text); err != nil || !ours {
			return errors.Join(wrong, shadowed, err)
		}
	}
	wanted := slices.DeleteFunc(current.Instances(app, numbers), g.layout.Rolled)
	return errors.Join(wrong, shadowed, g.emit(app, current.Plan, text, wanted))
}

// first emits the unit of an app that was never ready, from its .env, so that a person
// can see and edit it. Nothing wants the unit, because an app that has not been ready may
// take the port of one that has: the boot service starts it, when those have their ports.
// What the unit needs is frozen in the output directory. systemd ignores a directory of
// that name.
func (g *generator) first(src *units.Source) error {
	spec, err := g.layout.Check(src)
	if err != nil {
		return err
	}
	if err := g.layout.Shadows(src.App); err != nil {
		return err
	}
	dir := units.FirstGeneration(g.out, src.App)
	tmp := temporary(g.out, filepath.Base(dir))
	// It records no time, so that two runs write the same bytes.
	_, err = store.Freeze(tmp, dir, spec, 1, time.Time{})
	if err == nil {
		err = place(tmp, dir)
	}
	if err != nil {
		os.RemoveAll(tmp)
		return err
	}
	return g.emit(src.App, spec.Plan, []byte(spec.Unit(dir)), nil)
}

// place gives a complete directory its name. If an earlier run, or one at the same
// time, has made that directory, place exchanges the two in one step.
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

// rename is os.Rename, but does not look at the new name beforehand.
func rename(from, to string, flags uint) error {
	if err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, flags); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// emit writes the unit, and then the links that start it.
func (g *generator) emit(app string, plan units.Plan, text []byte, wanted []string) error {
	unit := plan.Unit(app)
	if err := g.write(g.out, unit, text); err != nil || len(wanted) == 0 {
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

// write makes a file of mode 0644. Nobody ever sees a part of it.
func (g *generator) write(dir, name string, text []byte) error {
	tmp := temporary(dir, name)
	err := store.WriteFile(tmp, text, 0o644)
	if err == nil {
		err = rename(tmp, filepath.Join(dir, name), 0)
	}
	if err != nil {
		os.Remove(tmp)
	}
	return err
}

// temporary is a name that systemd ignores and no other run uses.
func temporary(dir, name string) string {
	return fmt.Sprintf("%s/.%s.%d", dir, name, os.Getpid())
}
