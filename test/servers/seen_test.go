package servers

import (
	"reflect"
	"testing"
	"time"

	"app-rollout/test/load"
)

// TestSeen: an answer counts where it was asked for, and those before the first
// rollout nowhere.
func TestSeen(t *testing.T) {
	at := func(ms int64) time.Time { return time.UnixMilli(ms) }
	answer := func(from, took int64) load.Answer { return load.Answer{Start: from * 1e6, End: (from + took) * 1e6} }
	m := Measured{
		Took: []Span{{at(1000), at(2000)}, {at(3000), at(4000)}},
		Report: &load.Report{Kinds: map[load.Kind]int{load.OK: 7, load.Reset: 1}, Answers: []load.Answer{
			answer(100, 500),                                    // cold
			answer(990, 20), answer(1500, 30), answer(1999, 40), // inside the first
			answer(2000, 2), answer(3500, 9), answer(4500, 3), // after it, inside the second, after that
		}},
	}
	got := m.seen()
	ms := time.Millisecond
	if want := (seen{lost: 20000, usual: 3 * ms, inside: slowest{9 * ms, 40 * ms}, calm: slowest{2 * ms, 3 * ms}}); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	for limit, want := range map[time.Duration]int{8 * ms: 0, 9 * ms: 1, 40*ms - 1: 1, 40 * ms: 2} {
		if n := got.inside.within(limit); n != want {
			t.Errorf("%d within %v, want %d", n, limit, want)
		}
	}
}
