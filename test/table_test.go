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
	fmt.Fprintf(&b, "%d rollouts of two instances each, under %d clients that make a new connection for each request and pause %d ms in between. By hand: start the new instances, wait, stop the old ones. Lost: of 100,000 connections. Slowest: the slowest of a thousand answers outside the rollouts (p99.9), and the slowest of all inside them; ÷ is how many times as long that took. Kept-alive: requests that 16 wrk connections lost in one rollout.\n\n",
		e.rollouts, e.clients, e.pause.Milliseconds())
	b.WriteString("| server | lost, by hand | lost, app-rollout | slowest, by hand | slowest, app-rollout | ÷, by hand | ÷, app-rollout | kept-alive lost, by hand | kept-alive lost, app-rollout |\n")
	b.WriteString("|---|" + strings.Repeat("---:|", 8) + "\n")
	for _, r := range t {
		plain, ours := r.plain.seen(), r.ours.seen()
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", r.name, plain.lost, ours.lost, plain.slowest, ours.slowest, plain.times, ours.times, r.plain.kept, r.ours.kept)
	}
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

// seen is what clients saw, for people.
type seen struct{ lost, slowest, times string }

func (m measured) seen() seen {
	var outside, inside []load.Answer
	for _, a := range m.report.Answers {
		in := slices.ContainsFunc(m.took, func(s span) bool { return a.End > s.from.UnixNano() && a.Start < s.to.UnixNano() })
		if in {
			inside = append(inside, a)
		} else {
			outside = append(outside, a)
		}
	}
	usual, worst := load.Of(outside).P999, load.Of(inside).Max
	lost := m.report.Lost()
	return seen{
		lost:    fmt.Sprintf("%.0f", 100000*float64(lost)/float64(lost+m.report.Answered())),
		slowest: fmt.Sprintf("%.0f / %.0f ms", millis(usual), millis(worst)),
		times:   fmt.Sprintf("%.1f", float64(worst)/float64(max(usual, 1))),
	}
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
