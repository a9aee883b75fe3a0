//go:build story

package test

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"app-rollout/test/load"
	steps "app-rollout/units/step"
)

// shift is when the new connections of an app went over to a generation: none before
// from, all after at.
type shift struct {
	generation int
	from, at   time.Time
}

// shifts are the app's shifts, in order. The record of a shift is written at the end of
// the step; the receipt tells how long the step took.
func (a *app) shifts() []shift {
	a.t.Helper()
	a.Must("journalctl", "--sync")
	var all []shift
	for line := range strings.Lines(a.Must("journalctl", "-b", "-o", "json", "APP_ROLLOUT_APP="+a.name, "APP_ROLLOUT_STEP=shift")) {
		var record struct {
			Time       string `json:"_SOURCE_REALTIME_TIMESTAMP"` // microseconds since 1970
			Generation string `json:"APP_ROLLOUT_GENERATION"`
		}
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			a.t.Fatalf("%v: %s", err, line)
		}
		us, err := strconv.ParseInt(record.Time, 10, 64)
		if err != nil {
			a.t.Fatalf("%v: %s", err, line)
		}
		s := shift{at: time.UnixMicro(us)}
		s.generation, _ = strconv.Atoi(record.Generation)
		for _, step := range a.receipt(record.Generation).Rollout.Steps {
			if step.Name == steps.Shift {
				s.from = s.at.Add(-time.Duration(step.Milliseconds * float64(time.Millisecond)))
			}
		}
		all = append(all, s)
	}
	return all
}

// inOrder checks that no generation answered before its turn, or was asked after it.
// The first word of an answer is "g" and the number of its generation. A connection
// belongs to the generation in whose turn it began.
func (a *app) inOrder(answers []load.Answer) {
	a.t.Helper()
	all := a.shifts()
	if len(all) == 0 {
		a.t.Fatal("nothing was shifted")
	}
	early, late := 0, 0
	for _, answer := range answers {
		word, _, _ := strings.Cut(answer.Label, " ")
		n, err := strconv.Atoi(strings.TrimPrefix(word, "g"))
		if err != nil {
			a.t.Fatalf("an answer from %q", answer.Label)
		}
		i := slices.IndexFunc(all, func(s shift) bool { return s.generation == n })
		if i >= 0 && answer.End < all[i].from.UnixNano() {
			early++
			a.t.Logf("early: %q, %v before the shift", answer.Label, time.Duration(all[i].from.UnixNano()-answer.End))
		}
		// The first generation has no shift.
		if next := i + 1; next < len(all) && answer.Start > all[next].at.UnixNano() {
			late++
			a.t.Logf("late: %q, asked %v after the shift", answer.Label, time.Duration(answer.Start-all[next].at.UnixNano()))
		}
	}
	if early > 0 || late > 0 {
		a.t.Errorf("%d answers of a generation before it was to serve, %d after", early, late)
	}
}
