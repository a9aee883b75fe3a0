// Package store keeps each app's generations on disk, and until reboot the numbers
// of its instances.
package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"app-rollout/units"
	"app-rollout/units/problem"
)

// Store keeps the generations of one app:
//
//	generations/<n>/   frozen, see Generation
//	current            link to generations/<n>: the last one that became ready
//	next               the number of the next generation; numbers are never reused
//	rejected           the number of the newest one that failed
//	instances.json     a copy of the record in /run, see Instances
//
// Invariant: current names a complete generation that has been ready, at every
// moment and after a power cut; all else may be lost without harm.
type Store struct {
	layout units.Layout
	app    string
	dir    string
	run    string // see Instances
}

// unnamed is the name of a generation that is being written.
const unnamed = "new"

// Kept is how many generations beside the current one are kept for going back.
const Kept = 4

// Of is the store of app, which need not exist on disk.
func Of(l units.Layout, app string) Store {
	return Store{layout: l, app: app, dir: l.State(app), run: l.Run(app)}
}

// Apps are the names of the apps that have a store, sorted. The error is
// fs.ErrNotExist if the directory of the stores is missing, or its file system is
// not mounted yet.
func Apps(l units.Layout) ([]string, error) {
	if l.Awaited(units.StateDir) {
		return nil, &fs.PathError{Op: "read", Path: units.StateDir, Err: fs.ErrNotExist}
	}
	entries, err := os.ReadDir(l.Path(units.StateDir))
	if err != nil {
		return nil, err
	}
	var apps []string
	for _, e := range entries {
		if e.IsDir() && units.ValidName(e.Name()) {
			apps = append(apps, e.Name())
		}
	}
	return apps, nil
}

// Dir is the directory of a generation.
func (s Store) Dir(number int) string {
	return filepath.Join(s.dir, "generations", strconv.Itoa(number))
}

// Current is the current generation, nil if the app was never ready. A damaged
// one is an error, never nil: it must not be mistaken for a first start.
func (s Store) Current() (*Generation, error) {
	link := filepath.Join(s.dir, "current")
	target, err := os.Readlink(link)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	number, err := strconv.Atoi(strings.TrimPrefix(target, "generations/"))
	if err != nil {
		return nil, &problem.Problem{Path: link, Text: "does not lead to a generation", Remedy: s.mend()}
	}
	g, err := s.Generation(number)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &problem.Problem{Path: link, Text: "leads to a generation that is gone", Remedy: s.mend()}
	}
	return g, err
}

// mend is the two things that a person can do about a broken link. Only a person
// knows which one is right.
func (s Store) mend() string {
	return "point it to one of " + filepath.Join(s.dir, "generations") + " that was ready, or remove it and start anew: app-rollout run " + s.app
}

// Generation reads one generation.
func (s Store) Generation(number int) (*Generation, error) {
	g, err := ReadGeneration(s.Dir(number))
	if err == nil && (g.App != s.app || g.Number != number) {
		return nil, &problem.Problem{Path: filepath.Join(s.Dir(number), generationFile), Text: "belongs to another generation", Remedy: "move its directory away"}
	}
	return g, err
}

// Generations are the numbers of the generations on disk, oldest first.
func (s Store) Generations() ([]int, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, "generations"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var numbers []int
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil && n > 0 {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, err
}

// Unit is the frozen unit of a generation.
func (s Store) Unit(number int) ([]byte, error) {
	return os.ReadFile(filepath.Join(s.Dir(number), unitFile))
}

// ReleaseUnit is the frozen unit of a generation's release command.
func (s Store) ReleaseUnit(number int) ([]byte, error) {
	return os.ReadFile(filepath.Join(s.Dir(number), releaseFile))
}

// ProgramDir is the directory of the program that a generation's unit runs, "" if it
// cannot be read.
func (s Store) ProgramDir(number int) string {
	unit, err := s.Unit(number)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(unit)) {
		command, ok := strings.CutPrefix(strings.TrimSpace(line), "ExecStart=")
		if !ok {
			continue
		}
		end := " "
		if strings.HasPrefix(command, `"`) {
			command, end = command[1:], `"`
		}
		program, _, _ := strings.Cut(command, end)
		// The unit has them as systemd wants them.
		return filepath.Dir(strings.NewReplacer(`%%`, `%`, `$$`, `$`, `\\`, `\`).Replace(program))
	}
	return ""
}

// Env is the frozen text of a generation's .env.
func (s Store) Env(number int) ([]byte, error) {
	return os.ReadFile(filepath.Join(s.Dir(number), units.EnvFile))
}

// Freeze makes the next generation from a spec.
func (s Store) Freeze(spec *units.Spec, now time.Time) (*Generation, error) {
	return s.add(func(dir string, number int) error {
		_, err := freeze(dir, units.GenerationDir(s.app, number), spec, number, now, writeNew)
		return errors.Join(err, syncDir(dir))
	})
}

// Copy makes the next generation from an earlier one, for a rollback. A copy of a
// copy counts as a copy of the original.
func (s Store) Copy(of *Generation) (*Generation, error) {
	from, inside := s.Dir(of.Number), units.GenerationDir(s.app, of.Number)
	g, err := ReadGeneration(from)
	if err != nil {
		return nil, err
	}
	original := of.Number
	if of.Held() {
		original = of.CopyOf
	}
	return s.add(func(dir string, number int) error {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		for _, name := range []string{units.EnvFile, unitFile, units.EnvironmentFile} {
			data, err := os.ReadFile(filepath.Join(from, name))
			if err != nil {
				return err
			}
			if name == unitFile {
				data = bytes.ReplaceAll(data, []byte("="+inside+"/"), []byte("="+units.GenerationDir(s.app, number)+"/"))
			}
			if err := writeNew(filepath.Join(dir, name), data); err != nil {
				return err
			}
		}
		g.Number, g.CopyOf, g.Ready, g.Ports, g.Rollout, g.Restart = number, original, false, nil, nil, nil
		g.Created = time.Now()
		text, err := g.encode()
		if err != nil {
			return err
		}
		if err := writeNew(filepath.Join(dir, generationFile), text); err != nil {
			return err
		}
		return syncDir(dir)
	})
}

// add takes the next number, lets fill write the generation under a temporary name,
// and renames it. So a generation is complete or does not exist.
func (s Store) add(fill func(dir string, number int) error) (*Generation, error) {
	all := filepath.Join(s.dir, "generations")
	// A new directory is durable when its parent is synced.
	for _, dir := range []string{s.dir, all} {
		if err := os.Mkdir(dir, 0o700); errors.Is(err, fs.ErrExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		if err := syncDir(filepath.Dir(dir)); err != nil {
			return nil, err
		}
	}
	number, err := s.Next()
	if err != nil {
		return nil, err
	}
	if err := replace(filepath.Join(s.dir, "next"), fmt.Appendln(nil, number+1)); err != nil {
		return nil, err
	}
	tmp := filepath.Join(all, unnamed)
	if err := os.RemoveAll(tmp); err != nil {
		return nil, err
	}
	if err := fill(tmp, number); err != nil {
		os.RemoveAll(tmp)
		return nil, err
	}
	if err := rename(tmp, s.Dir(number)); err != nil {
		return nil, err
	}
	return s.Generation(number)
}

// Next is the number that the next generation gets. It is above every number in the
// file next and of every generation on disk. Next reserves nothing.
func (s Store) Next() (int, error) {
	next := 1
	if data, err := os.ReadFile(filepath.Join(s.dir, "next")); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil && n > next {
			next = n
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	numbers, err := s.Generations()
	if err != nil {
		return 0, err
	}
	if len(numbers) > 0 {
		next = max(next, numbers[len(numbers)-1]+1)
	}
	return next, nil
}

// Save replaces the generation.json of a generation.
func (s Store) Save(g *Generation) error {
	data, err := g.encode()
	if err != nil {
		return err
	}
	return replace(filepath.Join(s.Dir(g.Number), generationFile), data)
}

// Commit makes a generation the current one. The rename of the link is the
// moment at which the rollout can no longer go back. If the same failed before, it no
// longer counts as rejected.
func (s Store) Commit(g *Generation) error {
	g.Ready = true
	if err := s.Save(g); err != nil {
		return err
	}
	tmp := filepath.Join(s.dir, "current.tmp")
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink("generations/"+strconv.Itoa(g.Number), tmp); err != nil {
		return err
	}
	if err := rename(tmp, filepath.Join(s.dir, "current")); err != nil {
		return err
	}
	// If the file stays, Rejected sees by itself that it is out of date.
	if n, err := s.number("rejected"); err == nil && n > 0 {
		if old, err := s.Generation(n); err == nil && old.Digest == g.Digest {
			_ = os.Remove(filepath.Join(s.dir, "rejected"))
		}
	}
	return nil
}

// Reject notes that a generation failed, so that a boot does not try it again.
func (s Store) Reject(g *Generation) error {
	if err := s.Save(g); err != nil {
		return err
	}
	return replace(filepath.Join(s.dir, "rejected"), fmt.Appendln(nil, g.Number))
}

// Rejected is the newest generation that failed, nil if none did, or if the same has
// become ready since. It may be older than the current one.
func (s Store) Rejected() (*Generation, error) {
	n, err := s.number("rejected")
	if n == 0 || err != nil {
		return nil, err
	}
	g, err := s.Generation(n)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	// Version 0.1.0 left the file as it was when the same became ready.
	numbers, err := s.Generations()
	if err != nil {
		return nil, err
	}
	for _, n := range numbers {
		if n <= g.Number {
			continue
		}
		if later, err := s.Generation(n); err == nil && later.Ready && later.Digest == g.Digest {
			return nil, nil
		}
	}
	return g, nil
}

func (s Store) number(name string) (int, error) {
	data, err := os.ReadFile(filepath.Join(s.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return 0, &problem.Problem{Path: filepath.Join(s.dir, name), Text: "does not hold a generation's number", Remedy: "remove it"}
	}
	return n, nil
}

// Prune removes old generations. It keeps the current generation, the newest Kept
// others that were ready, and the newest rejected one. It must not be called while
// an instance of another generation than the current one runs.
func (s Store) Prune() error {
	current, err := s.Current()
	if err != nil {
		return err
	}
	rejected, err := s.number("rejected")
	if err != nil {
		return err
	}
	numbers, err := s.Generations()
	if err != nil {
		return err
	}
	wrong := []error{os.RemoveAll(filepath.Join(s.dir, "generations", unnamed)), sweep(s.dir)}
	ready := 0
	for _, n := range slices.Backward(numbers) {
		wrong = append(wrong, sweep(s.Dir(n)))
		if n == rejected || current != nil && n == current.Number {
			continue
		}
		g, err := s.Generation(n)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			continue // a person must look at a damaged one
		}
		if err == nil && g.Ready {
			if ready++; ready <= Kept {
				continue
			}
		}
		wrong = append(wrong, s.Remove(n))
	}
	return errors.Join(wrong...)
}

// Remove deletes a generation that is not the current one. It deletes
// generation.json first. A directory without it was not wholly removed, because a
// generation is never written in part.
func (s Store) Remove(number int) error {
	if err := os.Remove(filepath.Join(s.Dir(number), generationFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(s.Dir(number))
}

// sweep removes the unfinished files that a killed run has left in a directory.
func sweep(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, "*.tmp"))
	for _, path := range left {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}
