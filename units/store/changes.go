package store

import (
	"bytes"
	"maps"
	"slices"

	"app-rollout/units"
	"app-rollout/units/dotenv"
)

// Changes says how two states of an app differ: the names of variables, and
// everything else in words. It never holds a value.
type Changes struct {
	Variables []string
	Others    []string
}

// None says that nothing differs.
func (c Changes) None() bool { return len(c.Variables) == 0 && len(c.Others) == 0 }

// Names is all differences, for one line.
func (c Changes) Names() []string { return slices.Concat(c.Variables, c.Others) }

// frozen is the parts of a state that compare needs.
type frozen struct {
	digest string
	env    []byte
	source string
	plan   units.Plan
}

// Pending says how the spec differs from the generation, whose frozen .env is env.
func (g *Generation) Pending(s *units.Spec, env []byte) Changes {
	return compare(frozen{g.Digest, env, g.Source, g.Plan}, frozen{s.Digest(), s.Source.Text, s.Source.Path, s.Plan})
}

// Since says how a generation differs from an earlier one. The texts are their
// frozen .envs.
func (g *Generation) Since(before *Generation, env, envBefore []byte) Changes {
	return compare(frozen{before.Digest, envBefore, before.Source, before.Plan}, frozen{g.Digest, env, g.Source, g.Plan})
}

func compare(before, after frozen) (c Changes) {
	if before.digest == after.digest {
		return c
	}
	old, err := dotenv.Parse(before.source, before.env)
	if err != nil {
		return Changes{Others: []string{"the text"}}
	}
	now, err := dotenv.Parse(after.source, after.env)
	if err != nil {
		return Changes{Others: []string{"the text"}}
	}
	names := slices.Concat(slices.Collect(maps.Keys(old.Values)), slices.Collect(maps.Keys(now.Values)))
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		a, had := old.Values[name]
		b, has := now.Values[name]
		if had != has || a != b {
			c.Variables = append(c.Variables, name)
		}
	}
	other := func(differs bool, variable, words string) {
		if differs && !slices.Contains(c.Variables, variable) {
			c.Others = append(c.Others, words)
		}
	}
	other(before.source != after.source, "", "the place of the .env")
	other(before.plan.WorkingDirectory != after.plan.WorkingDirectory, "SYSTEMD_WORKING_DIRECTORY", "the release that the working directory leads to")
	other(before.plan.User != after.plan.User, "SYSTEMD_USER", "the owner of the .env")
	other(before.plan.Nodes != after.plan.Nodes && before.plan.Mode == after.plan.Mode, "SYSTEMD_CLUSTER_NODES", "the number of CPUs")
	if c.None() {
		if bytes.Equal(before.env, after.env) {
			c.Others = append(c.Others, "where a path in the settings leads")
		} else {
			c.Others = append(c.Others, "comments or spelling only")
		}
	}
	return c
}
