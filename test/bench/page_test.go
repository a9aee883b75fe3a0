//go:build bench

package bench

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"app-rollout/test/load"
)

// us is what was seen of ours.
func us(all []*seen) *seen {
	return all[slices.IndexFunc(all, func(s *seen) bool { return s.ours })]
}

func (p *page) deploys(all []*seen) {
	p.heading("Deploys under load")
	p.printf("Two instances of one small Node app, replaced %d times while 16 clients come on a fresh connection each time and 8 keep theirs; each pauses 5 ms between requests. Nothing is repeated by a client: a kept connection that turns out to be closed counts as lost. "+
		"Two ways of the app to stop: it dies of SIGTERM, or is graceful: for half a second it answers with `Connection: close`, then it closes. \"Inside\" is from a deploy's command to half a second after its end. A deploy's duration has the start of two Node processes in it, and their end. app-rollout waits for connections that have a request in hand; those of the clients that keep theirs and ask again and again never come to rest, so it waits for its whole drain time, here 3 s (by default 30). When it then stops an app that just dies, the connections that clients keep to it die too, one request on each: only the app, or a proxy before it, can tell a client that a connection ends.\n\n", deploys())
	for _, stop := range stops {
		p.printf("\n### An app that %s\n\n", map[string]string{"dies": "dies of SIGTERM", "graceful": "stops gracefully"}[stop])
		table := NewTable("", "lost per deploy, fresh / kept", "per 100,000, fresh / kept", "which", "max inside ÷ p99.9 outside", "max inside", "p99.9 inside", "p99.9 outside", "a deploy takes")
		var bars []Bar
		for _, s := range all {
			d := s.series[stop]
			if d == nil {
				continue
			}
			inside, outside := d.split(d.fresh)
			which := strings.Trim(fmt.Sprintf("%s / %s", orDash(kinds(d.fresh)), orDash(kinds(d.kept))), " ")
			table.Row(s.name, fmt.Sprintf("%.1f / %.1f", d.each(d.fresh), d.each(d.kept)), fmt.Sprintf("%.1f / %.1f", lost(d.fresh), lost(d.kept)), which,
				ratio(float64(inside.Max)/float64(max(outside.P999, 1))), ms(inside.Max), ms(inside.P999), ms(outside.P999), ms(d.median()))
			colour := bad
			if s.ours {
				colour = ours
			}
			bars = append(bars, Bar{Name: s.name, Value: d.each(d.fresh) + d.each(d.kept), Colour: colour,
				Text: fmt.Sprintf("%.1f fresh, %.1f kept", d.each(d.fresh), d.each(d.kept))})
			if d.failed > 0 {
				p.printf("%d of %d deploys of %s failed.\n\n", d.failed, deploys(), s.name)
			}
		}
		p.printf("%s", table)
		p.picture("lost-"+stop+".svg", "requests lost per deploy", Bars("Requests lost per deploy, on fresh and on kept connections, the app "+map[string]string{"dies": "dies of SIGTERM", "graceful": "stops gracefully"}[stop], bars))

		me := us(all).series[stop]
		inside, _ := me.split(me.fresh)
		for _, s := range all {
			d := s.series[stop]
			if d == nil || s.ours {
				continue
			}
			theirs, _ := d.split(d.fresh)
			about := "the app " + map[string]string{"dies": "dies", "graceful": "stops gracefully"}[stop]
			if d.each(d.fresh) < me.each(me.fresh) {
				p.ahead("Lost a deploy on fresh connections, "+about, fmt.Sprintf("%.1f", me.each(me.fresh)), s.name, fmt.Sprintf("%.1f", d.each(d.fresh)))
			}
			if d.each(d.kept) < me.each(me.kept) {
				p.ahead("Lost a deploy on kept connections, "+about, fmt.Sprintf("%.1f", me.each(me.kept)), s.name, fmt.Sprintf("%.1f", d.each(d.kept)))
			}
			if clearly(float64(theirs.Max), float64(inside.Max)) {
				p.ahead("The slowest answer inside a deploy, "+about, ms(inside.Max), s.name, ms(theirs.Max))
			}
			if clearly(float64(d.median()), float64(me.median())) {
				p.ahead("Duration of a deploy, "+about, ms(me.median()), s.name, ms(d.median()))
			}
		}
	}
}

// clearly: what differs by less than a tenth may be chance.
func clearly(less, more float64) bool { return less < 0.9*more }

func orDash(text string) string {
	if text == "" {
		return "–"
	}
	return text
}

func (p *page) between(all []*seen) {
	p.heading("Between deploys")
	p.printf("16 clients without a pause, against one process of the same app asked directly; both in turn, the medians of three. CPU is that of app and tool together, for one answer on a fresh connection. Memory is what the tool's own processes hold (PSS).\n\n")
	table := NewTable("", "fresh: requests/s × one", "kept: requests/s × one", "fresh: p99 × one", "kept: p99 × one", "CPU per request × one", "tool's memory", "tool's processes")
	var direct []float64
	me := us(all).rate
	for _, s := range all {
		r := s.rate
		if r == nil {
			continue
		}
		direct = append(direct, r.direct)
		table.Row(s.name, ratio(r.fresh), ratio(r.kept), ratio(r.freshP99), ratio(r.keptP99), ratio(r.cpu), fmt.Sprintf("%.1f MiB", r.resident), fmt.Sprint(r.processes))
		if s.ours || strings.HasPrefix(s.name, "plain") {
			continue // between deploys, a plain swap is what ours is
		}
		if clearly(me.fresh, r.fresh) {
			p.ahead("Requests per second between deploys, fresh connections", ratio(me.fresh), s.name, ratio(r.fresh))
		}
		if clearly(me.kept, r.kept) {
			p.ahead("Requests per second between deploys, kept connections", ratio(me.kept), s.name, ratio(r.kept))
		}
	}
	p.printf("%s\nThat one process gave %.0f answers a second on fresh connections, in the middle of all.\n", table, Median(direct))
}

func (p *page) badDeploys(all []*seen) {
	p.heading("A bad deploy")
	p.printf("The new version listens, answers 500 for five seconds, then exits. 8 clients, ten seconds from the deploy's command. Each tool has the check that it brings with it: app-rollout and kamal-proxy a health path, HAProxy its `httpchk`; a script around the others could ask too.\n\n")
	table := NewTable("", "failed of all requests", "which", "the command says so", "serving well ten seconds later")
	me := us(all).bad
	for _, s := range all {
		b := s.bad
		if b == nil {
			continue
		}
		share := func(r *load.Report) float64 { return 100 * float64(r.Lost()) / float64(max(r.Lost()+r.Answered(), 1)) }
		well := "no"
		if b.last.Lost() == 0 && b.last.Answered() > 0 {
			well = "yes"
		} else if b.last.Answered() > 0 {
			well = "partly"
		}
		table.Row(s.name, fmt.Sprintf("%.2f %%", share(b.report)), orDash(kinds(b.report)), map[bool]string{true: "yes", false: "no"}[b.refused], well)
		if share(b.report) < share(me.report) {
			p.ahead("Failed in a bad deploy", fmt.Sprintf("%.2f %%", share(me.report)), s.name, fmt.Sprintf("%.2f %%", share(b.report)))
		}
	}
	p.printf("%s", table)
}

// steps tells where the time of our deploys went.
func (p *page) steps(all []*seen) {
	p.heading("Where the time of a rollout goes")
	records := us(all).scene.records
	times := map[string][]float64{}
	var names []string
	for _, r := range records {
		for _, s := range r.Steps {
			if times[s.Name] == nil {
				names = append(names, s.Name)
			}
			times[s.Name] = append(times[s.Name], s.Milliseconds)
		}
	}
	p.printf("The median of %d rollouts of two instances, step by step, under the fresh half of the load above. `start` is Node starting, `drain` waits for requests in flight, `stop` for the app to end, `ready` and `watch` for the app to prove itself.\n", len(records))
	var bars []Bar
	own := 0.0
	for _, name := range names {
		v := Median(times[name])
		bars = append(bars, Bar{Name: name, Value: v, Text: millis(v)})
		if !waits[name] {
			own += v
		}
	}
	p.picture("steps.svg", "the duration of each step", Bars("A rollout of two instances, step by step", bars))
	p.printf("\nThe steps in which it waits for nobody but the disk, the kernel and systemd (all but %s) took %s together; the goal is 150 ms.\n", "start, ready, watch, drain and stop", millis(own))
}

// waits are the steps that last as long as the app takes.
var waits = map[string]bool{"start": true, "ready": true, "watch": true, "drain": true, "stop": true}

// pictures shows one deploy of ours, and one plain swap.
func (p *page) pictures(all []*seen) {
	p.heading("A rollout, and a plain swap, as clients see them")
	p.printf("One deploy of each under 16 clients on fresh connections, the app dies of SIGTERM: answers in each 25 ms, by generation and instance; red: requests that were lost.\n")
	for _, s := range all {
		d := s.scene
		if d == nil {
			continue
		}
		name, marks := "swap.svg", []mark{{d.deploys[0].from, "begin"}, {d.deploys[0].to, "end"}}
		if s.ours {
			name, marks = "rollout.svg", nil
			at := d.records[0].Started
			for _, step := range d.records[0].Steps {
				marks = append(marks, mark{at, step.Name})
				at = at.Add(time.Duration(step.Milliseconds * float64(time.Millisecond)))
			}
			marks = append(marks, mark{at, "end"})
		}
		p.picture(name, s.name+" under load", bands(s.name, d, marks))
	}
}
