package store

import (
	"slices"
	"testing"

	"app-rollout/units"
)

// What changed is told by names, and no value of either side is among them.
func TestChanges(t *testing.T) {
	before := frozen{"a", []byte("A=secret1\nB=2\nC=3\n"), "/srv/shop/.env", units.Plan{Mode: 1, Nodes: 2, WorkingDirectory: "/srv/1", User: "u"}}
	for _, test := range []struct {
		name   string
		digest string
		env    string
		change func(*frozen)
		want   []string
	}{
		{"same", "a", "A=other", nil, nil},
		{"changed, added, removed", "b", "A=secret2\nC=3\nD=4\n", nil, []string{"A", "B", "D"}},
		{"comment", "b", "# hello\nA=secret1\nB=2\nC=3\n", nil, []string{"comments or spelling only"}},
		{"release", "b", "A=secret1\nB=2\nC=3\n", func(f *frozen) { f.plan.WorkingDirectory = "/srv/2" }, []string{"the release that the working directory leads to"}},
		{"working directory", "b", "A=secret1\nB=2\nC=3\nSYSTEMD_WORKING_DIRECTORY=/srv/2", func(f *frozen) { f.plan.WorkingDirectory = "/srv/2" }, []string{"SYSTEMD_WORKING_DIRECTORY"}},
		{"owner and CPUs", "b", "A=secret1\nB=2\nC=3\n", func(f *frozen) { f.plan.User, f.plan.Nodes = "v", 4 }, []string{"the owner of the .env", "the number of CPUs"}},
		{"link", "b", "A=secret1\nB=2\nC=3\n", nil, []string{"where a path in the settings leads"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			after := frozen{test.digest, []byte(test.env), before.source, before.plan}
			if test.change != nil {
				test.change(&after)
			}
			if got := compare(before, after).Names(); !slices.Equal(got, test.want) {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}
