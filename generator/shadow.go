package main

import (
	"slices"

	"app-rollout/units/store"
)

// beat makes systemd prefer a recorded generation to the files in the names of its units
// that we have not written, such as a copy of an older unit: it writes the unit under
// each of these names into the early directory too. ours is false if a file is not to be
// beaten, and nothing is to be emitted: another package has installed a unit of the name.
// A mask is obeyed, for it hides our unit as it is meant to.
func (g *generator) beat(current *store.Generation, numbers []int, text []byte) (ours bool, err error) {
	names := append(current.Instances(current.App, numbers), current.Unit(current.App))
	for _, s := range g.layout.ShadowFiles(current.App) {
		switch {
		case !slices.Contains(names, s.Unit):
		case s.Beaten():
			if err := g.write(g.early, s.Unit, text); err != nil {
				return false, err
			}
		case !s.Masks():
			return false, nil
		}
	}
	return true, nil
}
