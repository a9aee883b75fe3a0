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
// Invariant: a number is never given out twice while the machine is up, since
// systemd may still have the old unit of that name loaded.
type Instances struct {
	Next        int           `json:"next"`
	Generations map[int][]int `json:"generations"` // generation → its instances
	// Serving are those that the last rollout, or the boot, has left serving:
	// also when nobody knows their generation any more.
	// nil if nothing was ever written down, which is not the same as none.
	Serving []int `json:"serving"`
	// Shifted is the generation that a rollout under way has given all new
	// connections to, or is about to; 0 between rollouts and before that.
	Shifted int `json:"shifted,omitempty"`
}

const instancesFile = "instances.json"

// Instances reads what is remembered; nothing yet is no error.
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
		return i, &problem.Problem{Path: path, Text: "is damaged; remove it"}
	}
	if i.Generations == nil {
		i.Generations = map[int][]int{}
	}
	return i, nil
}

// SaveInstances remembers them. The directory must exist.
func (s Store) SaveInstances(i Instances) error {
	data, err := json.Marshal(i)
	if err != nil {
		return err
	}
	return replace(filepath.Join(s.run, instancesFile), append(data, '\n'))
}

// Take gives out n new numbers to a generation.
func (i *Instances) Take(generation, n int) []int {
	for range n {
		i.Generations[generation] = append(i.Generations[generation], i.Next)
		i.Next++
	}
	return i.Generations[generation]
}
