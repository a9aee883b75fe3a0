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

const instancesFile = "instances.json"

// Instances reads instances.json. A missing file is no error.
func (s Store) Instances() (Instances, error) {
	path := filepath.Join(s.run, instancesFile)
	i := Instances{Next: 1, Generations: map[int][]int{}}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return i, nil
	}
	if err != nil {
		return i, err
	}
	if err := json.Unmarshal(data, &i); err != nil || i.Next < 1 {
		return i, &problem.Problem{Path: path, Text: "is damaged", Remedy: "remove it"}
	}
	if i.Generations == nil {
		i.Generations = map[int][]int{}
	}
	return i, nil
}

// SaveInstances writes instances.json. Its directory must exist.
func (s Store) SaveInstances(i Instances) error {
	data, err := json.Marshal(i)
	if err != nil {
		return err
	}
	return replace(filepath.Join(s.run, instancesFile), append(data, '\n'))
}

// Take gives n new numbers to a generation and returns all of its numbers.
func (i *Instances) Take(generation, n int) []int {
	for range n {
		i.Generations[generation] = append(i.Generations[generation], i.Next)
		i.Next++
	}
	return i.Generations[generation]
}
