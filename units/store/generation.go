package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"app-rollout/units"
	"app-rollout/units/problem"
	"app-rollout/units/step"
)

// The files of a generation's directory beside units.EnvFile and units.EnvironmentFile.
const (
	unitFile       = "unit"            // the unit that runs it
	releaseFile    = "release"         // the unit that runs its release command, if it has one
	generationFile = "generation.json" // this Generation
)

// Generation is what a set of instances was started from, and how that went.
// Everything above Ready is fixed when it is frozen.
type Generation struct {
	App     string    `json:"app"`
	Number  int       `json:"generation"`
	Digest  string    `json:"digest"`  // equal digests: nothing differs but the number
	Unsized string    `json:"unsized"` // the same, of all but the number of nodes
	Created time.Time `json:"created"`
	Source  string    `json:"source"` // the real .env
	// InPlace says that the code is not deployed as a release, so that it is not frozen.
	// It is false too in what 0.1.0 froze.
	InPlace bool `json:"in_place,omitempty"`
	units.Plan

	// CopyOf is the number of the generation that a person rolled back to and of
	// which this one is a copy, else 0. The app is held as long as such a copy is
	// the current generation. generation.json says it, so that the hold begins and ends
	// with the commit, even if the power fails.
	CopyOf int `json:"copy_of,omitempty"`

	// Ready says that the generation has been ready, and so may be booted.
	Ready bool `json:"ready"`
	// Ports are those that its instances listened on when it became ready, in order and
	// without those that the kernel chose. A generation that an older version has made
	// has none.
	Ports []int `json:"ports,omitempty"`
	// Rollout is the receipt of the rollout of this generation, gone well or not.
	Rollout *Receipt `json:"rollout,omitempty"`
	// Restart is the receipt of its last restart, gone well or not; nil if there was none.
	Restart *Receipt `json:"restart,omitempty"`
}

// Freeze writes the files of a generation into dir, which must not exist.
// inside is dir as the units will name it. The directory is 0700 and every file
// 0600 from the moment it exists, because they hold secrets. Freeze syncs nothing:
// it is for the generator, whose output lies on a tmpfs.
func Freeze(dir, inside string, s *units.Spec, number int, now time.Time) (*Generation, error) {
	return freeze(dir, inside, s, number, now, func(path string, data []byte) error { return WriteFile(path, data, 0o600) })
}

// freeze is Freeze with the function that writes a file.
func freeze(dir, inside string, s *units.Spec, number int, now time.Time, writeNew func(path string, data []byte) error) (*Generation, error) {
	g := &Generation{
		App:     s.App,
		Number:  number,
		Digest:  s.Digest(),
		Unsized: s.Unsized(),
		Created: now,
		Source:  s.Source.Path,
		InPlace: s.InPlace(),
		Plan:    s.Plan,
	}
	text, err := g.encode()
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	type file struct {
		name string
		data []byte
	}
	files := []file{
		{units.EnvFile, s.Source.Text},
		{unitFile, []byte(s.Unit(inside))},
		{units.EnvironmentFile, s.Environment()},
		{generationFile, text},
	}
	if release := s.ReleaseUnit(inside); release != "" {
		files = append(files, file{releaseFile, []byte(release)})
	}
	for _, f := range files {
		if err := writeNew(filepath.Join(dir, f.name), f.data); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// ReadGeneration reads the generation.json of a directory and checks that
// the generation is complete. A field of the plan must not be left out of the
// file when it is zero, unless zero is its default.
func ReadGeneration(dir string) (*Generation, error) {
	path := filepath.Join(dir, generationFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	// A field that the version that wrote the file did not know gets its default.
	g := &Generation{Plan: units.DefaultPlan()}
	if err := json.Unmarshal(data, g); err != nil || !g.valid() {
		return nil, &problem.Problem{Path: path, Text: "is damaged", Remedy: "move its directory away to let the app be rolled out anew"}
	}
	for _, name := range []string{units.EnvFile, unitFile, units.EnvironmentFile} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return nil, &problem.Problem{Path: filepath.Join(dir, name), Text: "is missing", Remedy: "move its directory away to let the app be rolled out anew"}
		}
	}
	return g, nil
}

// valid says whether generation.json can be acted on; a damaged one cannot.
func (g *Generation) valid() bool {
	return units.ValidName(g.App) && g.Number > 0 && g.Nodes > 0 && (g.Mode == 0 || g.Mode == 1) && g.Digest != ""
}

// ReadySince is when the generation became ready: its rollout's commit.
func (g *Generation) ReadySince() time.Time {
	if g.Rollout == nil {
		return g.Created
	}
	at := g.Rollout.Started
	for _, s := range g.Rollout.Steps {
		if s.Name == step.Release {
			continue // the time of the receipt begins when it is over
		}
		at = at.Add(time.Duration(s.Milliseconds * float64(time.Millisecond)))
		if s.Name == step.Commit {
			break
		}
	}
	return at
}

// Held says whether a person rolled back to this generation, which may be nil.
// While it is the current one, only a person's run replaces it.
func (g *Generation) Held() bool { return g != nil && g.CopyOf > 0 }

func (g *Generation) encode() ([]byte, error) {
	data, err := json.MarshalIndent(g, "", "  ")
	return append(data, '\n'), err
}

// writeNew writes and syncs a 0600 file that must not exist yet.
func writeNew(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// WriteFile writes a new file. The generator writes many, and os.WriteFile needs
// five more system calls for each, because it asks the poller. WriteFile fails if
// the file exists, because others may be able to read that file.
func WriteFile(path string, data []byte, mode uint32) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, mode)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return errors.Join(&os.PathError{Op: "write", Path: path, Err: err}, unix.Close(fd))
		}
		data = data[max(n, 0):]
	}
	return unix.Close(fd)
}

// replace writes a file so that at any moment it is the old one or the new one.
func replace(path string, data []byte) error {
	tmp := fmt.Sprintf("%s.%d.tmp", path, os.Getpid())
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := writeNew(tmp, data); err != nil {
		os.Remove(tmp)
		return err
	}
	return rename(tmp, path)
}

// rename renames a file and syncs the directory, so that the new name is durable.
func rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		os.Remove(from)
		return err
	}
	return syncDir(filepath.Dir(to))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
