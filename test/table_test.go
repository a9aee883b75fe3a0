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
}

// markdown is the tables, for people: what clients saw, and where the time of
// a rollout went.
func (t table) markdown(e effort) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d rollouts of two instances each, under %d clients that make a new connection for each request and pause %d ms in between; the CPUs are then idle for so much of the time outside the rollouts. By hand: start the new instances, wait, stop the old ones. Lost: of 100,000 connections. Slowest: outside the rollouts the slowest of a thousand answers (p99.9) / inside one rollout the slowest of all, of the rollouts the median (and the worst). ÷ is inside by outside, and for ÷ calm what it is inside stretches of %d answers in which nothing is rolled out. Kept-alive: requests that 16 wrk connections lost in one rollout.\n\n",
		e.rollouts, e.clients, e.pause.Milliseconds(), e.calm)
	b.WriteString("| server | CPUs idle | lost, by hand | lost, app-rollout | slowest, by hand | slowest, app-rollout | ÷ by hand | ÷ app-rollout | ÷ calm | kept-alive lost, by hand | kept-alive lost, app-rollout |\n")
	b.WriteString("|---|" + strings.Repeat("---:|", 10) + "\n")
	var count, oursWithin, plainWithin int
	for _, r := range t {
		plain, ours := r.plain.seen(), r.ours.seen()
		count += len(ours.inside)
		oursWithin += ours.inside.within(bound * ours.usual)
		plainWithin += plain.inside.within(bound * plain.usual)
		fmt.Fprintf(&b, "| %s | %.0f %% | %.0f | %.0f | %s | %s | %s | %s | %s | %s | %s |\n", r.name, 100*r.ours.idle, plain.lost, ours.lost,
			plain.took(), ours.took(), plain.inside.times(plain.usual), ours.inside.times(ours.usual), ours.calm.times(ours.usual), r.plain.kept, r.ours.kept)
	}
	fmt.Fprintf(&b, "\nOf %d rollouts %d had no answer inside that took longer than %d times the slowest of a thousand outside; by hand %d.\n", count, oursWithin, bound, plainWithin)
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
	lost         float64       // of 100,000 connections
	usual        time.Duration // of a thousand answers outside the rollouts the slowest
	inside, calm slowest       // of the rollouts, and of the stretches after each
}

// took is how long the slowest answers took, for people.
func (s seen) took() string {
	return fmt.Sprintf("%.1f / %.0f (%.0f) ms", millis(s.usual), millis(s.inside.median()), millis(s.inside.worst()))
}

// bound is how many times as long as usual an answer inside a rollout is to take
// at most.
const bound = 3

// slowest are the slowest answers of several stretches, one of each, in the
// order of how long they took.
type slowest []time.Duration

func (s slowest) median() time.Duration { return s[len(s)/2] }
func (s slowest) worst() time.Duration  { return s[len(s)-1] }

// within is how many took no longer.
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
	var outside []load.Answer
	for _, a := range m.report.Answers {
		in, after := false, -1
		for i, s := range m.took {
			if a.Start >= s.to.UnixNano() {
				after = i
			} else if a.End > s.from.UnixNano() {
				inside[i], in = append(inside[i], a), true
			}
		}
		if in {
			continue
		}
		outside = append(outside, a)
		if after >= 0 {
			calm[after] = append(calm[after], a)
		}
	}
	lost := m.report.Lost()
	return seen{
		lost:   100000 * float64(lost) / float64(lost+m.report.Answered()),
		usual:  load.Of(outside).P999,
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
