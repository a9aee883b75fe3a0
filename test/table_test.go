//go:build story

package test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"app-rollout/test/load"
)

// table is the tables of servers in RESULTS.md.
type table []row

type row struct {
	name        string
	ours, plain measured
	more        measured // ours, under clients that pause half as long
}

// markdown is the tables, for people: what clients saw, and where the time of
// a rollout went.
func (t table) markdown(e effort) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d rollouts of two instances each, under %d clients. A client makes a new connection for each request and pauses %d ms in between; in the runs with more load it pauses half as long. ÷ calm is of the %d answers after each rollout. [SERVERS.md](../SERVERS.md#how-they-are-compared) says what \"by hand\" is and what the columns mean.\n\n",
		e.rollouts, e.clients, e.pause.Milliseconds(), e.calm)
	b.WriteString("| server | CPUs idle | lost, by hand | lost, app-rollout | slowest, by hand | slowest, app-rollout | ÷ by hand | ÷ app-rollout | ÷ calm | ÷ app-rollout, more load | kept-alive lost, by hand | kept-alive lost, app-rollout |\n")
	b.WriteString("|---|" + strings.Repeat("---:|", 11) + "\n")
	var count, oursWithin, plainWithin, moreWithin int
	for _, r := range t {
		plain, ours, more := r.plain.seen(), r.ours.seen(), r.more.seen()
		count += len(ours.inside)
		oursWithin += ours.inside.within(bound * ours.usual)
		moreWithin += more.inside.within(bound * more.usual)
		plainWithin += plain.inside.within(bound * plain.usual)
		fmt.Fprintf(&b, "| %s | %.0f / %.0f %% | %.0f | %.0f | %s | %s | %s | %s | %s | %s | %s | %s |\n", r.name, 100*r.ours.idle, 100*r.more.idle, plain.lost, ours.lost,
			plain.took(), ours.took(), plain.inside.times(plain.usual), ours.inside.times(ours.usual), ours.calm.times(ours.usual), more.inside.times(more.usual), r.plain.kept, r.ours.kept)
	}
	fmt.Fprintf(&b, "\nIn %d of %d rollouts every answer took at most %d times the p99.9 between the rollouts of the same run; with more load in %d; by hand, not counting what was lost, in %d.\n", oursWithin, count, bound, moreWithin, plainWithin)
	b.WriteString("\nHow long the steps of app-rollout took, in milliseconds, the medians. `watch` is set to 1 s; `start`, `ready` and `stop` last as long as the app takes.\n\n")
	names := t.steps()
	fmt.Fprintf(&b, "| server | %s |\n|---|%s\n", strings.Join(names, " | "), strings.Repeat("---:|", len(names)))
	for _, r := range t {
		fmt.Fprintf(&b, "| %s |", r.name)
		for _, name := range names {
			fmt.Fprintf(&b, " %.1f |", r.ours.step(name))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// seen is what clients saw.
type seen struct {
	lost         float64       // of 100,000 connections during rollouts
	usual        time.Duration // of a thousand answers between the rollouts the slowest
	inside, calm slowest       // of each rollout, and of the answers after it
}

// took is how long the slowest answers took, for people.
func (s seen) took() string {
	return fmt.Sprintf("%.1f / %.0f (%.0f) ms", millis(s.usual), millis(s.inside.median()), millis(s.inside.worst()))
}

// bound is how many times as long as usual an answer inside a rollout should take
// at most; the sentence below the table tells how often that was so.
const bound = 3

// slowest are the slowest answers of several stretches, one of each, in the
// order of how long they took.
type slowest []time.Duration

func (s slowest) median() time.Duration { return s[len(s)/2] }
func (s slowest) worst() time.Duration  { return s[len(s)-1] }

// within is how many took no longer than the limit.
func (s slowest) within(limit time.Duration) int {
	n, _ := slices.BinarySearch(s, limit+1)
	return n
}

func (s slowest) times(usual time.Duration) string {
	by := func(d time.Duration) float64 { return float64(d) / float64(max(usual, 1)) }
	return fmt.Sprintf("%.1f (%.1f)", by(s.median()), by(s.worst()))
}

func (m measured) seen() seen {
	inside, calm := make([][]load.Answer, len(m.took)), make([][]load.Answer, len(m.took))
	var between []load.Answer
	asked := 0 // during rollouts
	for _, a := range m.report.Answers {
		in, after := false, -1
		for i, s := range m.took {
			if a.Start >= s.to.UnixNano() {
				after = i
			} else if a.End > s.from.UnixNano() {
				inside[i], in = append(inside[i], a), true
			}
		}
		switch {
		case in:
			asked++
		case after >= 0: // those before the first rollout met a server that was not warm
			between, calm[after] = append(between, a), append(calm[after], a)
		}
	}
	lost := m.report.Lost()
	return seen{
		lost:   100000 * float64(lost) / float64(lost+asked),
		usual:  load.Of(between).P999,
		inside: slowestOf(inside),
		calm:   slowestOf(calm),
	}
}

func slowestOf(stretches [][]load.Answer) (all slowest) {
	for _, answers := range stretches {
		all = append(all, load.Of(answers).Max)
	}
	slices.Sort(all)
	return all
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// steps are the names of the steps, in their order.
func (t table) steps() []string {
	var names []string
	for _, s := range t[0].ours.records[0].Steps {
		names = append(names, s.Name)
	}
	return names
}

// step is the median of how long a step took, in milliseconds.
func (m measured) step(name string) float64 {
	var all []float64
	for _, r := range m.records {
		for _, s := range r.Steps {
			if s.Name == name {
				all = append(all, s.Milliseconds)
			}
		}
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// TestSeen: an answer counts where it was asked for, and those before the first
// rollout nowhere.
func TestSeen(t *testing.T) {
	at := func(ms int64) time.Time { return time.UnixMilli(ms) }
	answer := func(from, took int64) load.Answer { return load.Answer{Start: from * 1e6, End: (from + took) * 1e6} }
	m := measured{
		took: []span{{at(1000), at(2000)}, {at(3000), at(4000)}},
		report: &load.Report{Kinds: map[load.Kind]int{load.OK: 7, load.Reset: 1}, Answers: []load.Answer{
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
