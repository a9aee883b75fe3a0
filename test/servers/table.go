package servers

import (
	"fmt"
	"slices"
	"strings"
)

// Table is the tables of servers in RESULTS.md.
type Table []Row

// Row is what clients saw of one server.
type Row struct {
	Name        string
	Ours, Plain Measured
	More        Measured // ours, under clients that pause half as long
}

// Markdown is the tables, for people: what clients saw, and where the time of
// a rollout went.
func (t Table) Markdown(e Effort) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d rollouts of two instances each, under %d clients. A client makes a new connection for each request and pauses %d ms in between; in the runs with more load it pauses half as long. ÷ calm is of the %d answers after each rollout. [SERVERS.md](../SERVERS.md#how-they-are-compared) says what \"by hand\" is and what the columns mean.\n\n",
		e.Rollouts, e.Clients, e.Pause.Milliseconds(), e.Calm)
	b.WriteString("| server | CPUs idle | lost, by hand | lost, app-rollout | slowest, by hand | slowest, app-rollout | ÷ by hand | ÷ app-rollout | ÷ calm | ÷ app-rollout, more load | kept-alive lost, by hand | kept-alive lost, app-rollout |\n")
	b.WriteString("|---|" + strings.Repeat("---:|", 11) + "\n")
	var count, oursWithin, plainWithin, moreWithin int
	for _, r := range t {
		plain, ours, more := r.Plain.seen(), r.Ours.seen(), r.More.seen()
		count += len(ours.inside)
		oursWithin += ours.inside.within(bound * ours.usual)
		moreWithin += more.inside.within(bound * more.usual)
		plainWithin += plain.inside.within(bound * plain.usual)
		fmt.Fprintf(&b, "| %s | %.0f / %.0f %% | %.0f | %.0f | %s | %s | %s | %s | %s | %s | %s | %s |\n", r.Name, 100*r.Ours.Idle, 100*r.More.Idle, plain.lost, ours.lost,
			plain.took(), ours.took(), plain.inside.times(plain.usual), ours.inside.times(ours.usual), ours.calm.times(ours.usual), more.inside.times(more.usual), r.Plain.Kept, r.Ours.Kept)
	}
	fmt.Fprintf(&b, "\nIn %d of %d rollouts every answer took at most %d times the p99.9 between the rollouts of the same run; with more load in %d; by hand, not counting what was lost, in %d.\n", oursWithin, count, bound, moreWithin, plainWithin)
	b.WriteString("\nHow long the steps of app-rollout took, in milliseconds, the medians. `watch` is set to 1 s; `start`, `ready` and `stop` last as long as the app takes.\n\n")
	names := t.steps()
	fmt.Fprintf(&b, "| server | %s |\n|---|%s\n", strings.Join(names, " | "), strings.Repeat("---:|", len(names)))
	for _, r := range t {
		fmt.Fprintf(&b, "| %s |", r.Name)
		for _, name := range names {
			fmt.Fprintf(&b, " %.1f |", r.Ours.step(name))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// steps are the names of the steps, in their order.
func (t Table) steps() []string {
	var names []string
	for _, s := range t[0].Ours.Records[0].Steps {
		names = append(names, s.Name)
	}
	return names
}

// step is the median of how long a step took, in milliseconds.
func (m Measured) step(name string) float64 {
	var all []float64
	for _, r := range m.Records {
		for _, s := range r.Steps {
			if s.Name == name {
				all = append(all, s.Milliseconds)
			}
		}
	}
	slices.Sort(all)
	return all[len(all)/2]
}
