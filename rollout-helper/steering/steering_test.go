package steering

import (
	"testing"

	"app-rollout/rollout-helper/sockets/socktest"
)

func TestMain(m *testing.M) { socktest.Main(m) }

func TestHoldAndShift(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	const address = "127.0.0.1:8080"
	listen := []socktest.Listen{{Network: "tcp", Address: address}}
	var s Steering
	old := socktest.Start(t, socktest.Cgroup(t, "old"), socktest.Config{Name: "old", Listen: listen})
	if err := s.Steer([]string{old.Cgroup}, nil); err != nil {
		t.Fatal(err)
	}
	fresh := socktest.Start(t, socktest.Cgroup(t, "new"), socktest.Config{Name: "new", Listen: listen})
	if counts := socktest.Count(t, address, 2000); counts["old"] != 2000 {
		t.Errorf("held: %v, want all from old", counts)
	}
	if err := s.Steer([]string{old.Cgroup}, []string{fresh.Cgroup}); err != nil {
		t.Fatal(err)
	}
	if counts := socktest.Count(t, address, 2000); counts["old"] != 2000 {
		t.Errorf("held, the new one known: %v, want all from old", counts)
	}
	if err := s.Steer([]string{fresh.Cgroup}, nil); err != nil {
		t.Fatal(err)
	}
	if counts := socktest.Count(t, address, 2000); counts["new"] != 2000 {
		t.Errorf("shifted: %v, want all from new", counts)
	}
	if err := s.Detach(); err != nil {
		t.Fatal(err)
	}
	if counts := socktest.Count(t, address, 2000); counts["new"] < 500 || counts["old"] < 500 {
		t.Errorf("detached: %v, want some of each", counts)
	}
}
