package sockets

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
)

// TestView: a view reads each control group once, however often it is asked.
func TestView(t *testing.T) {
	group := func(address string) Group { return Group{Addr: netip.MustParseAddrPort(address)} }
	trees := map[string]map[uint64]bool{"/a": {1: true, 2: true}, "/b": {3: true}}
	read := make(map[string]int)
	v := NewView([]Listener{
		{Group: group("0.0.0.0:81"), Cgroup: 2},
		{Group: group("0.0.0.0:80"), Cgroup: 1},
		{Group: group("0.0.0.0:80"), Cgroup: 1},
		{Group: group("0.0.0.0:80"), Cgroup: 3},
		{Group: group("0.0.0.0:80"), Cgroup: 4},
	}, func(path string) (map[uint64]bool, error) {
		read["tree "+path]++
		return trees[path], nil
	}, func(path string) (bool, error) {
		read["namespace "+path]++
		return path == "/b", nil
	})
	for range 2 {
		for path, want := range map[string]struct {
			listeners int
			groups    []Group
			elsewhere bool
		}{
			"/a": {3, []Group{group("0.0.0.0:80"), group("0.0.0.0:81")}, false},
			"/b": {1, []Group{group("0.0.0.0:80")}, true},
			"/c": {0, nil, false},
			"":   {0, nil, false},
		} {
			in, err := v.In(path)
			if err != nil || len(in) != want.listeners {
				t.Errorf("%q: %v, %v", path, in, err)
			}
			if groups, err := v.Groups(path); err != nil || !slices.Equal(groups, want.groups) {
				t.Errorf("%q: groups %v, %v, want %v", path, groups, err, want.groups)
			}
			if elsewhere, err := v.Elsewhere(path); err != nil || elsewhere != want.elsewhere {
				t.Errorf("%q: elsewhere %v, %v", path, elsewhere, err)
			}
		}
	}
	for what, n := range read {
		if n != 1 || what == "tree " || what == "namespace " {
			t.Errorf("%s was read %d times", what, n)
		}
	}
}

// TestViewError: what could not be read is read again when it is asked for again.
func TestViewError(t *testing.T) {
	broken := errors.New("broken")
	v := NewView([]Listener{{Cgroup: 1}}, func(string) (map[uint64]bool, error) {
		err := broken
		broken = nil
		return map[uint64]bool{1: true}, err
	}, nil)
	if _, err := v.In("/a"); err == nil {
		t.Error("no error")
	}
	if in, err := v.In("/a"); err != nil || len(in) != 1 {
		t.Errorf("%v, %v", in, err)
	}
}
