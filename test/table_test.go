//go:build story

package test

import (
	"fmt"
	"strings"
	"time"
)

// table is the README's table of servers.
type table []row

type row struct {
	name        string
	ours, plain measured
}

// markdown is the table, for people.
func (t table) markdown(rollouts, clients int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d rollouts of two instances each under %d clients that make a new connection for each request; the longest answer outside / inside the rollouts; kept-alive: 16 wrk connections, one rollout.\n\n", rollouts, clients)
	b.WriteString("| server | lost, start–wait–stop | lost, app-rollout | longest answer, start–wait–stop | longest answer, app-rollout | kept-alive lost, start–wait–stop | kept-alive lost, app-rollout |\n")
	b.WriteString("|---|---:|---:|---:|---:|---:|---:|\n")
	for _, r := range t {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s |\n", r.name, r.plain.lost(), r.ours.lost(), r.plain.longest(), r.ours.longest(), r.plain.kept, r.ours.kept)
	}
	return b.String()
}

func (m measured) lost() string {
	if m.report == nil {
		return "–"
	}
	return fmt.Sprintf("%d of %d", m.report.Lost(), m.report.Lost()+m.report.Answered())
}

// longest tells the longest answers outside and inside the rollouts.
func (m measured) longest() string {
	if m.report == nil {
		return "–"
	}
	var outside, inside time.Duration
	for _, a := range m.report.Answers {
		took := time.Duration(a.End - a.Start)
		in := false
		for _, s := range m.took {
			in = in || a.End > s.from.UnixNano() && a.Start < s.to.UnixNano()
		}
		if in {
			inside = max(inside, took)
		} else {
			outside = max(outside, took)
		}
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return fmt.Sprintf("%.0f / %.0f ms", ms(outside), ms(inside))
}
