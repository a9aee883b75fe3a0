package store

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"app-rollout/units/problem"
)

// Instances remembers, until reboot, which instance numbers were given out.
//
// Invariant: no number is given out twice while the machine is up, because systemd
// may still have the old unit of that name loaded.
type Instances struct {
	Next        int           `json:"next"`
	Generations map[int][]int `json:"generations"` // generation → its instances
	// Serving are the instances that the last rollout, or the boot, has left
	// serving, even if their generation is no longer known. It is nil if nothing was
	// ever written, and empty if none serves.
	Serving []int `json:"serving"`
	// Shifted is the generation to which a rollout sends all new connections, or is
	// about to. It is 0 before that step and between rollouts.
	Shifted int `json:"shifted,omitempty"`
}

// copied is the copy of Instances that lies in the store: /run can be emptied at any
// time, and what runs goes on. It counts only in the boot that it was written in.
type copied struct {
	Boot string `json:"boot"` // see units.Layout.Boot
	Instances
}

const instancesFile = "instances.json"

// Instances reads instances.json, or the copy if that is missing. It is no error if
// both are.
func (s Store) Instances() (Instances, error) {
	path := filepath.Join(s.run, instancesFile)
	var i Instances
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		i = s.fromCopy()
	case err != nil:
		return i, err
	default:
		if err := json.Unmarshal(data, &i); err != nil || i.Next < 1 {
			return i, &problem.Problem{Path: path, Text: "is damaged", Remedy: "remove it"}
		}
	}
	if i.Generations == nil {
		i.Generations = map[int][]int{}
	}
	return i, nil
}

// fromCopy is what the copy says. One that is damaged, or of another boot, says
// nothing.
func (s Store) fromCopy() Instances {
	var c copied
	data, err := os.ReadFile(filepath.Join(s.dir, instancesFile))
	if err != nil || json.Unmarshal(data, &c) != nil || c.Next < 1 || c.Boot == "" || c.Boot != s.layout.Boot() {
		return Instances{Next: 1}
	}
	return c.Instances
}

// SaveInstances writes instances.json and the copy. If somebody has removed the
// directory in /run, it is made again. Where that cannot be done, as in the sandbox of
// a service that had it before, the copy is enough.
func (s Store) SaveInstances(i Instances) error {
	data, err := json.Marshal(i)
	if err != nil {
		return err
	}
	path := filepath.Join(s.run, instancesFile)
	if err = os.MkdirAll(s.run, 0o700); err == nil {
		err = replace(path, append(data, '\n'))
	}
	if err != nil {
		if _, e := os.Lstat(path); !errors.Is(e, fs.ErrNotExist) {
			return err // what is there would be read
		}
	}
	if e := s.saveCopy(i); e == nil {
		return nil
	}
	// One that is out of date must not be read.
	_ = os.Remove(filepath.Join(s.dir, instancesFile))
	return err
}

// saveCopy writes the copy. It syncs nothing: after a power cut it does not count.
func (s Store) saveCopy(i Instances) error {
	boot := s.layout.Boot()
	if boot == "" {
		return errors.New("this boot cannot be told from another one")
	}
	data, err := json.Marshal(copied{boot, i})
	if err != nil {
		return err
	}
	path := filepath.Join(s.dir, instancesFile)
	tmp := path + ".tmp"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := WriteFile(tmp, append(data, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// Take gives n new numbers to a generation and returns all of its numbers.
func (i *Instances) Take(generation, n int) []int {
	for range n {
		i.Generations[generation] = append(i.Generations[generation], i.Next)
		i.Next++
	}
	return i.Generations[generation]
}
