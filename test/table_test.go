//go:build story

package test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"app-rollout/test/load"
)

// table is the README's tables of servers.
type table []row

type row struct {
	name        string
	ours, plain measured
	twice       measured // ours, under clients that pause half as long
}

// markdown is the tables, for people: what clients saw, and where the time of
// a rollout went.
func (t table) markdown(e effort) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d rollouts of two instances each, under %d clients that make a new connection for each request and pause %d ms in between; twice the load is a pause of half of that. By hand: start the new instances, wait until they listen, stop the old ones; app-rollout also watches for a second. CPUs idle: between the rollouts of app-rollout, and so under twice the load; an instance that starts takes a CPU. Lost: of 100,000 connections during rollouts. Slowest: a / b (c), where a is the slowest of a thousand answers between the rollouts (p99.9); each rollout has a slowest answer, b is the median of these and c the worst. ÷: b and c divided by a. ÷ calm: the same for %d answers after each rollout. Kept-alive: requests that 16 wrk connections lost in one rollout.\n\n",
		e.rollouts, e.clients, e.pause.Milliseconds(), e.calm)
	b.WriteString("| server | CPUs idle | lost, by hand | lost, app-rollout | slowest, by hand | slowest, app-rollout | ÷ by hand | ÷ app-rollout | ÷ calm | ÷ app-rollout, twice the load | kept-alive lost, by hand | kept-alive lost, app-rollout |\n")
	b.WriteString("|---|" + strings.Repeat("---:|", 11) + "\n")
	var count, oursWithin, plainWithin, twiceWithin int
	for _, r := range t {
		plain, ours, twice := r.plain.seen(), r.ours.seen(), r.twice.seen()
		count += len(ours.inside)
		oursWithin += ours.inside.within(bound * ours.usual)
		twiceWithin += twice.inside.within(bound * twice.usual)
		plainWithin += plain.inside.within(bound * plain.usual)
		fmt.Fprintf(&b, "| %s | %.0f / %.0f %% | %.0f | %.0f | %s | %s | %s | %s | %s | %s | %s | %s |\n", r.name, 100*r.ours.idle, 100*r.twice.idle, plain.lost, ours.lost,
			plain.took(), ours.took(), plain.inside.times(plain.usual), ours.inside.times(ours.usual), ours.calm.times(ours.usual), twice.inside.times(twice.usual), r.plain.kept, r.ours.kept)
	}
	fmt.Fprintf(&b, "\nIn %d of %d rollouts every answer took at most %d times the p99.9 between them; under twice the load in %d; by hand, not counting what was lost, in %d.\n", oursWithin, count, bound, twiceWithin, plainWithin)
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
