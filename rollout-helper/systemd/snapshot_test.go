package systemd

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// TestSnapshot: the units of many apps are read once, and others at each call.
func TestSnapshot(t *testing.T) {
	try(t, snapshot)
}

func snapshot(t *testing.T, p *pid1, m *Manager) {
	s := m.Snapshot(func(unit string) bool { return strings.HasPrefix(unit, "shop") || strings.HasPrefix(unit, "blog") })
	for _, c := range []struct{ patterns, want string }{
		{"shop.service shop@*.service", "shop@3.service"},
		{"shop@3.service", "shop@3.service"},
		{"shop@*", "shop@3.service"},
		{"shop@4.service", ""},
		{"blog.service blog@*.service", ""},
		{"shop-2.service shop-2@*.service", ""},
	} {
		us, err := s.Units(t.Context(), strings.Fields(c.patterns)...)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, u := range us {
			names = append(names, u.Name)
			if u.Sub != "start" {
				t.Errorf("%+v was not read", u)
			}
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("%s: %q, want %q", c.patterns, got, c.want)
		}
	}
	once := []string{"ListUnitsByPatterns", "GetAll"}
	if !slices.Equal(p.asked, once) {
		t.Errorf("PID 1 was asked %q, want %q", p.asked, once)
	}
	for range 2 {
		if _, err := s.Units(t.Context(), "app-rollout@*.service"); err != nil {
			t.Fatal(err)
		}
	}
	if want := slices.Concat(once, once, once); !slices.Equal(p.asked, want) {
		t.Errorf("PID 1 was asked %q, want %q", p.asked, want)
	}
}

// TestSnapshotRunning: of a unit that runs, only that is read which can differ.
func TestSnapshotRunning(t *testing.T) {
	try(t, func(t *testing.T, p *pid1, m *Manager) {
		p.runs = true
		us, err := m.Snapshot(func(string) bool { return true }).Units(t.Context(), "shop@*.service")
		if err != nil || len(us) != 1 {
			t.Fatalf("%v, %v", us, err)
		}
		want := Unit{Name: "shop@3.service", Load: "loaded", Active: "active", Sub: "running", Result: "success", MainPID: 77, Condition: true, Invocation: "abcd",
			ControlGroup: "the ControlGroup", Source: "the SourcePath", Fragment: "the FragmentPath", KillMode: "the KillMode", Status: "the StatusText"}
		if !reflect.DeepEqual(us[0], want) {
			t.Errorf("%+v, want %+v", us[0], want)
		}
		if slices.Contains(p.asked, "GetAll") {
			t.Errorf("PID 1 was asked %q", p.asked)
		}
	})
}
