package steering

import (
	"fmt"
	"sync/atomic"
	"testing"

	"app-rollout/rollout-helper/sockets/socktest"
)

// TestManyInstances: 32 old and 32 new ones; every connection goes where it
// should, and the load is spread over all.
func TestManyInstances(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	listen := listenOn("tcp4", address)
	var s Steering
	start := func(prefix string) (paths, names []string) {
		for i := range 32 {
			name := fmt.Sprintf("%s%02d", prefix, i)
			paths = append(paths, instance(t, name, listen).Cgroup)
			names = append(names, name)
		}
		return paths, names
	}
	old, oldNames := start("old")
	steer(t, &s, old, nil)
	fresh, freshNames := start("new")
	only(t, address, 3000, oldNames...)
	steer(t, &s, old, fresh)
	for i, path := range fresh {
		if name, err := dial(t, &s, s.Groups()[0], path); err != nil || name != freshNames[i] {
			t.Errorf("asked %s: %q, %v", path, name, err)
		}
	}
	steer(t, &s, fresh, old)
	only(t, address, 3000, freshNames...)
}

// TestAsksSideBySide: instances are asked at the same time, often, while others
// connect.
func TestAsksSideBySide(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	listen := listenOn("tcp4", address)
	var s Steering
	old := instance(t, "old", listen)
	fresh := []string{instance(t, "new0", listen).Cgroup, instance(t, "new1", listen).Cgroup, instance(t, "new2", listen).Cgroup}
	steer(t, &s, []string{old.Cgroup}, fresh)
	group := s.Groups()[0]
	failed := make(chan error, len(fresh))
	for i, path := range fresh {
		go func() {
			for range 500 {
				if name, err := dial(t, &s, group, path); err != nil || name != fmt.Sprintf("new%d", i) {
					failed <- fmt.Errorf("asked %s: %q, %v", path, name, err)
					return
				}
			}
			failed <- nil
		}()
	}
	only(t, address, 1000, "old")
	for range fresh {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	entries := s.groups[group].ArAsks.Iterate()
	var asking client
	var slot uint32
	if entries.Next(&asking, &slot) || len(s.groups[group].asking) != 0 {
		t.Errorf("a rule is left: %v, %v", asking, s.groups[group].asking)
	}
}

// TestNothingLostWhileSwitching: clients connect all the time while the serving
// set goes to and fro; each is answered, and the old ones are never cut.
func TestNothingLostWhileSwitching(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	listen := listenOn("tcp4", address)
	var s Steering
	a, b := instance(t, "a", listen), instance(t, "b", listen)
	var stop atomic.Bool
	type result struct {
		answers int
		err     error
	}
	results := make(chan result)
	for range 4 {
		go func() {
			var r result
			for !stop.Load() && r.err == nil {
				_, r.err = socktest.Who(address)
				r.answers++
			}
			results <- r
		}()
	}
	for range 100 {
		steer(t, &s, []string{a.Cgroup}, []string{b.Cgroup})
		steer(t, &s, []string{b.Cgroup}, []string{a.Cgroup})
	}
	if err := s.Detach(); err != nil {
		t.Error(err)
	}
	stop.Store(true)
	answers := 0
	for range 4 {
		r := <-results
		answers += r.answers
		if r.err != nil {
			t.Error(r.err)
		}
	}
	t.Logf("%d answers during 200 switches", answers)
}
