package steering

import (
	"fmt"
	"testing"

	"app-rollout/rollout-helper/sockets/socktest"
)

// BenchmarkSwitch measures Steer from start to end for 32 old and 32 new
// instances: to the other set, and with nothing to do.
func BenchmarkSwitch(b *testing.B) {
	if !socktest.Isolated(b) {
		return
	}
	listen := listenOn("tcp4", address)
	var sets [2][]string
	for i := range sets {
		for j := range 32 {
			sets[i] = append(sets[i], instance(b, fmt.Sprintf("%d-%d", i, j), listen).Cgroup)
		}
	}
	var s Steering
	b.Run("first", func(b *testing.B) {
		for range b.N {
			steer(b, &s, sets[0], sets[1])
			b.StopTimer()
			s.Detach()
			b.StartTimer()
		}
	})
	b.Run("switch", func(b *testing.B) {
		for i := range b.N {
			steer(b, &s, sets[i%2], sets[1-i%2])
		}
	})
	b.Run("unchanged", func(b *testing.B) {
		steer(b, &s, sets[0], sets[1])
		for range b.N {
			steer(b, &s, sets[0], sets[1])
		}
	})
}
