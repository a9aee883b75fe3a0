package systemd

import (
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
