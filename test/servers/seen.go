package servers

import (
	"fmt"
	"slices"
	"time"

	"app-rollout/test/load"
	"app-rollout/units/store"
)

// Effort is how much of a server is measured.
type Effort struct {
	Rollouts, Clients int
	Keepers           int           // clients that keep their connections
	Pause             time.Duration // of each client, between its requests
	Calm              int           // answers before each rollout and after the last
}

// Measured is what clients saw of some rollouts.
type Measured struct {
	Report  *load.Report
	Keepers *load.Report // of those that keep their connections, if there were any
	Took    []Span       // each rollout
	Records []*store.Receipt
	Idle    float64 // share of the CPUs' time, between the rollouts
	Kept    string  // what clients lost that keep their connections
}

// Span is from when to when something was done.
type Span struct{ From, To time.Time }

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

func (m Measured) seen() seen {
	inside, calm := make([][]load.Answer, len(m.Took)), make([][]load.Answer, len(m.Took))
	var between []load.Answer
	asked := 0 // during rollouts
	for _, a := range m.Report.Answers {
		in, after := false, -1
		for i, s := range m.Took {
			if a.Start >= s.To.UnixNano() {
				after = i
			} else if a.End > s.From.UnixNano() {
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
	lost := m.Report.Lost()
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
