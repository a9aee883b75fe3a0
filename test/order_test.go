//go:build story

package test

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"app-rollout/test/load"
	"app-rollout/test/machine"
	"app-rollout/units/store"
)

// receipt is the record of one of an app's generations: its number, or "current".
func receipt(m *machine.Machine, app, generation string) *store.Generation {
	path := "/var/lib/app-rollout/" + app + "/"
	if generation != "current" {
		path += "generations/"
	}
	g := new(store.Generation)
	if err := json.Unmarshal([]byte(m.Read(path+generation+"/generation.json")), g); err != nil {
		panic(err)
	}
	return g
}

// shift is when the new connections of an app went over to a generation: none
// before from, all since at.
type shift struct {
	generation int
	from, at   time.Time
}

// shifts are the app's, in their order. The record of a shift is written when
// it is done, at the end of the step, whose length the receipt tells.
func shifts(t *testing.T, m *machine.Machine, app string) []shift {
	t.Helper()
	m.Must("journalctl", "--sync")
	var all []shift
	for line := range strings.Lines(m.Must("journalctl", "-b", "-o", "json", "APP_ROLLOUT_APP="+app, "APP_ROLLOUT_STEP=shift")) {
		var record struct {
			Time       string `json:"_SOURCE_REALTIME_TIMESTAMP"` // microseconds since 1970
			Generation string `json:"APP_ROLLOUT_GENERATION"`
		}
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		us, err := strconv.ParseInt(record.Time, 10, 64)
		if err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		s := shift{at: time.UnixMicro(us)}
		s.generation, _ = strconv.Atoi(record.Generation)
		for _, step := range receipt(m, app, record.Generation).Rollout.Steps {
			if step.Name == "shift" {
				s.from = s.at.Add(-time.Duration(step.Milliseconds * float64(time.Millisecond)))
			}
		}
		all = append(all, s)
	}
	return all
}

// inOrder holds that no generation answered before it was to, and none after:
// every answer counts. Its first word is "g" and the number of its generation.
// What came before a shift and was answered after it is the old one's: a
// connection is judged by when it began.
func inOrder(t *testing.T, m *machine.Machine, app string, answers []load.Answer) {
	t.Helper()
	all := shifts(t, m, app)
	if len(all) == 0 {
		t.Fatal("nothing was shifted")
	}
	early, late := 0, 0
	for _, a := range answers {
		word, _, _ := strings.Cut(a.Label, " ")
		n, err := strconv.Atoi(strings.TrimPrefix(word, "g"))
		if err != nil {
			t.Fatalf("an answer from %q", a.Label)
		}
		i := slices.IndexFunc(all, func(s shift) bool { return s.generation == n })
		if i >= 0 && a.End < all[i].from.UnixNano() {
			early++
			t.Logf("early: %q, %v before the shift", a.Label, time.Duration(all[i].from.UnixNano()-a.End))
		}
		// Without a shift of its own it is the first.
		if next := i + 1; next < len(all) && a.Start > all[next].at.UnixNano() {
			late++
			t.Logf("late: %q, asked %v after the shift", a.Label, time.Duration(a.Start-all[next].at.UnixNano()))
		}
	}
	if early > 0 || late > 0 {
		t.Errorf("%d answers of a generation before it was to serve, %d after", early, late)
	}
}
