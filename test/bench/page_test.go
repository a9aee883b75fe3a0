//go:build bench

package bench

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"app-rollout/test/load"
)

// us is what was measured of app-rollout.
func us(all []*seen) *seen {
	return all[slices.IndexFunc(all, func(s *seen) bool { return s.ours })]
}

// peers measures all ways to deploy, and writes the tables.
func (p *page) peers() {
	b := newBed(p.t)
	all, n := b.peers()
	p.deploys(all, n)
	p.between(all)
	p.badDeploys(all)
	p.steps(all)
	p.scenes(all)
}

func (p *page) deploys(all []*seen, n *need) {
	p.heading("Deploys under load")
	p.printf("Two instances of one small Node app are replaced %d times. Meanwhile %d clients make a fresh connection for each request, and %d keep theirs: half of these GET, and half POST %d bytes. Each pauses %d ms between requests. No client repeats a request: one that finds its kept connection closed counts as lost.\n\n"+
		"\"Inside\" is from a deploy's command to %s after its end. \"Less the app\" is the duration without the time that the app itself needs. That time was measured with two instances that get no requests, on free ports, beside two that serve this load: from their start until they listened, and from SIGTERM to their end (medians of %d). So the swap by hand can come out near zero, and a tool that starts instances one after the other comes out longer.\n\n"+
		"app-rollout waits for connections that have a request in hand, %d s at most (`SYSTEMD_CLUSTER_DRAIN_SEC`). Meanwhile the kernel tells clients that keep their connections to close them: it changes one line of the next answer. The graceful app answers with `Connection: close` by itself for half a second when it is told to stop, then it closes.\n",
		deploys(), freshClients, 2*keptClients, postBytes, pause.Milliseconds(), ms(settle/2), needTimes, drainLimit)
	for _, app := range behaviours {
		p.printf("\n### An app that %s\n\n", app.about)
		if app.slow {
			p.slow(all, app)
		} else {
			p.series(all, app, n)
		}
	}
}

func (p *page) series(all []*seen, app *behaviour, n *need) {
	p.printf("The app itself needs %s to start and %s to stop.\n\n", millis(Median(n.start)), millis(Median(n.stop[app.name])))
	table := NewTable("", "lost per deploy, fresh / kept GET / kept POST", "per 100,000", "which", "a deploy takes", "less the app")
	slowest := NewTable("", "fresh: max inside ÷ p99.9 outside", "max inside / outside", "p99.9 inside / outside", "kept GET: max inside ÷ p99.9 outside", "max inside / outside", "p99.9 inside / outside")
	var bars []Bar
	for _, s := range all {
		d := s.series[app.name]
		if d == nil {
			continue
		}
		less := "–" // the app is another
		if !s.graceful {
			less = ms(d.median() - n.whole(app))
		}
		table.Row(s.name, fmt.Sprintf("%.1f / %.1f / %.1f", d.each(d.fresh), d.each(d.kept), d.each(d.posting)), fmt.Sprintf("%.1f / %.1f / %.1f", lost(d.fresh), lost(d.kept), lost(d.posting)),
			fmt.Sprintf("%s / %s / %s", orDash(kinds(d.fresh)), orDash(kinds(d.kept)), orDash(kinds(d.posting))), ms(d.median()), less)
		cells := []string{s.name}
		for _, r := range []*load.Report{d.fresh, d.kept} {
			inside, outside := d.split(r)
			cells = append(cells, ratio(float64(inside.Max)/float64(max(outside.P999, 1))), ms(inside.Max)+" / "+ms(outside.Max), ms(inside.P999)+" / "+ms(outside.P999))
		}
		slowest.Row(cells...)
		colour := bad
		if s.ours {
			colour = ours
		}
		kept := d.each(d.kept) + d.each(d.posting)
		bars = append(bars, Bar{Name: s.name, Value: d.each(d.fresh) + kept, Colour: colour,
			Text: fmt.Sprintf("%.1f fresh, %.1f kept", d.each(d.fresh), kept)})
	}
	p.printf("%s", table)
	p.refusals(all, app)
	p.drains(all, app)
	p.printf("\nHow long answers took:\n\n%s", slowest)
	p.picture("lost-"+app.name+".svg", "requests lost per deploy", Bars("Requests lost per deploy, on fresh and on kept connections, the app "+app.about, bars))

	me := us(all).series[app.name]
	for _, s := range all {
		d := s.series[app.name]
		if d == nil || s.ours {
			continue
		}
		about := "the app " + app.about
		if d.each(d.fresh) < me.each(me.fresh) {
			p.ahead("Lost a deploy on fresh connections, "+about, fmt.Sprintf("%.1f", me.each(me.fresh)), s.name, fmt.Sprintf("%.1f", d.each(d.fresh)))
		}
		for _, l := range []struct {
			how          string
			mine, theirs float64
		}{{"GET", me.each(me.kept), d.each(d.kept)}, {"POST", me.each(me.posting), d.each(d.posting)}} {
			if l.theirs < l.mine {
				p.ahead("Lost a deploy on kept connections, "+l.how+", "+about, fmt.Sprintf("%.1f", l.mine), s.name, fmt.Sprintf("%.1f", l.theirs))
			}
		}
		for _, l := range []struct {
			how          string
			mine, theirs *load.Report
		}{{"fresh", me.fresh, d.fresh}, {"kept", me.kept, d.kept}} {
			mine, _ := me.split(l.mine)
			theirs, _ := d.split(l.theirs)
			if clearly(float64(theirs.Max), float64(mine.Max)) {
				p.ahead("The slowest answer inside a deploy on "+l.how+" connections, "+about, ms(mine.Max), s.name, ms(theirs.Max))
			}
			if clearly(float64(theirs.P999), float64(mine.P999)) {
				p.ahead("The slowest of a thousand answers inside a deploy on "+l.how+" connections, "+about, ms(mine.P999), s.name, ms(theirs.P999))
			}
		}
		if clearly(float64(d.median()), float64(me.median())) {
			p.ahead("Duration of a deploy, "+about, ms(me.median()), s.name, ms(d.median()))
		}
	}
}

// drains writes how long our drains took, and how much longer our deploys than the swap
// by hand, which neither drains nor proves anything.
func (p *page) drains(all []*seen, app *behaviour) {
	me := us(all).series[app.name]
	var took []float64
	for _, r := range me.records {
		took = append(took, stepOf(r, "drain"))
	}
	byHand := all[slices.IndexFunc(all, func(s *seen) bool { return s.baseline })].series[app.name].median()
	p.printf("\nThe drains of app-rollout took %s (median; %s at most). With them, and without the watch, its deploys took %s longer than the swap by hand.\n", millis(Median(took)), millis(slices.Max(took)), ms(me.median()-byHand))
}

// slow writes about the app that has requests in hand at each deploy.
func (p *page) slow(all []*seen, app *behaviour) {
	p.printf("The same app, which dies of SIGTERM (gunicorn's workers finish what they have in hand). In addition %d clients send requests that take %d s to answer, one after the other, so that each has one in hand when a deploy comes. %d deploys. The drain time of app-rollout is %d s.\n\n", slowClients, slowAnswer, app.deploys(), drainLimit)
	table := NewTable("", fmt.Sprintf("slow requests lost per deploy, of %d", slowClients), "which", "others lost per deploy", "which", "max inside ÷ p99.9 outside, others", "a deploy takes")
	me := us(all).series[app.name]
	for _, s := range all {
		d := s.series[app.name]
		inside, outside := d.split(d.fresh)
		table.Row(s.name, fmt.Sprintf("%.1f", d.each(d.slow)), orDash(kinds(d.slow)), fmt.Sprintf("%.1f", d.each(d.fresh)), orDash(kinds(d.fresh)),
			ratio(float64(inside.Max)/float64(max(outside.P999, 1))), ms(d.median()))
		if d.each(d.slow) < me.each(me.slow) {
			p.ahead("Slow requests lost per deploy", fmt.Sprintf("%.1f", me.each(me.slow)), s.name, fmt.Sprintf("%.1f", d.each(d.slow)))
		}
		if d.each(d.fresh) < me.each(me.fresh) {
			p.ahead("Other requests lost per deploy of an app with slow ones", fmt.Sprintf("%.1f", me.each(me.fresh)), s.name, fmt.Sprintf("%.1f", d.each(d.fresh)))
		}
		// A tool that cuts slow requests is done sooner.
		if d.each(d.slow) <= me.each(me.slow) && clearly(float64(d.median()), float64(me.median())) {
			p.ahead("Duration of a deploy of an app with slow requests, none more lost", ms(me.median()), s.name, ms(d.median()))
		}
	}
	p.printf("%s", table)
	p.refusals(all, app)
}

// refusals names the peers whose deploys failed.
func (p *page) refusals(all []*seen, app *behaviour) {
	for _, s := range all {
		if d := s.series[app.name]; d != nil && d.failed > 0 {
			p.printf("\n%d of %d deploys of %s failed.\n", d.failed, len(d.deploys), s.name)
		}
	}
}

// clearly says whether less is below more by over a tenth. A smaller difference may be
// chance.
func clearly(less, more float64) bool { return less < 0.9*more }

func orDash(text string) string {
	if text == "" {
		return "–"
	}
	return text
}

func (p *page) between(all []*seen) {
	p.heading("Between deploys")
	p.printf("Two instances and 16 clients without a pause, compared with one process of the same app that is asked directly. The two are measured in turn; the figures are medians of three. CPU is of app and tool together, for one answer on a fresh connection. Memory is of the tool's own processes between deploys (PSS).\n\n")
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
		if s.ours || s.baseline {
			continue // between deploys, the swap by hand is what ours is
		}
		for _, f := range []struct {
			what         string
			mine, theirs float64
		}{ // what is better larger is compared by its inverse
			{"Requests per second between deploys, fresh connections", 1 / me.fresh, 1 / r.fresh},
			{"Requests per second between deploys, kept connections", 1 / me.kept, 1 / r.kept},
			{"p99 between deploys, fresh connections", me.freshP99, r.freshP99},
			{"p99 between deploys, kept connections", me.keptP99, r.keptP99},
			{"CPU per request between deploys", me.cpu, r.cpu},
		} {
			if !clearly(f.theirs, f.mine) {
				continue
			}
			mine, theirs := f.mine, f.theirs
			if strings.HasPrefix(f.what, "Requests") {
				mine, theirs = 1/mine, 1/theirs
			}
			p.ahead(f.what+", × one process", ratio(mine), s.name, ratio(theirs))
		}
	}
	p.printf("%s\nThat one process gave %.0f answers a second on fresh connections (the median of all its runs).\n", table, Median(direct))
}

func (p *page) badDeploys(all []*seen) {
	p.heading("A bad deploy")
	p.printf("The new version listens, answers 500 for five seconds, then exits. 8 clients ask for %.0f seconds from the deploy's command on. Each tool uses its own check: app-rollout and kamal-proxy a health path, HAProxy its `httpchk`. A script around the others could ask too. "+
		"Then the machine is rebooted with the bad version pending, and each tool starts its apps in its usual way: app-rollout by itself, PM2 by `pm2 save` and the unit of `pm2 startup`, and the others by enabled services of what the last successful command left. Clients then ask for two seconds from the first answer on.\n\n", badTime.Seconds())
	table := NewTable("", "failed of all requests", "which", "the command says so", "serving well at the end", "failed after the reboot", "what serves then")
	me := us(all).bad
	share := func(r *load.Report) float64 { return 100 * float64(r.Lost()) / float64(max(r.Lost()+r.Answered(), 1)) }
	for _, s := range all {
		b := s.bad
		if b == nil {
			continue
		}
		well := "no"
		if b.last.Lost() == 0 && b.last.Answered() > 0 {
			well = "yes"
		} else if b.last.Answered() > 0 {
			well = "partly"
		}
		booted, failed := "the bad version", fmt.Sprintf("%.2f %%", share(b.booted))
		switch {
		case b.booted.Answered()+b.booted.Lost() == 0:
			booted, failed = "nothing", "–"
		case b.booted.Lost() == 0:
			booted = "the version before"
		case b.booted.Answered() > 0:
			booted = "partly the version before"
		}
		table.Row(s.name, fmt.Sprintf("%.2f %%", share(b.report)), orDash(kinds(b.report)), map[bool]string{true: "yes", false: "no"}[b.refused], well,
			failed, booted)
		if share(b.report) < share(me.report) {
			p.ahead("Failed in a bad deploy", fmt.Sprintf("%.2f %%", share(me.report)), s.name, fmt.Sprintf("%.2f %%", share(b.report)))
		}
		if me.booted.Answered() == 0 && b.booted.Answered() > 0 || share(b.booted) < share(me.booted) {
			p.ahead("Failed after a reboot with a bad version pending", fmt.Sprintf("%.2f %%", share(me.booted)), s.name, fmt.Sprintf("%.2f %%", share(b.booted)))
		}
	}
	p.printf("%s", table)
}

// steps writes how much time each step of our deploys took.
func (p *page) steps(all []*seen) {
	p.heading("Where the time of a rollout goes")
	scene := us(all).scene
	times := map[string][]float64{}
	var names []string
	var around []float64 // what is no step
	for i, r := range scene.records {
		rest := scene.deploys[i].took().Seconds() * 1000
		for _, s := range r.Steps {
			if times[s.Name] == nil {
				names = append(names, s.Name)
			}
			times[s.Name] = append(times[s.Name], s.Milliseconds)
			rest -= s.Milliseconds
		}
		around = append(around, rest)
	}
	p.printf("The medians of %d rollouts of two instances, step by step, under the fresh half of the load above. In `start` Node starts, in `ready` and `watch` the app proves itself, `drain` waits for requests in flight, and `stop` waits for the app to end. \"Around\" is the rest: the commands that write the `.env` and start the service, and the service's own start and end.\n", len(scene.records))
	names = append(names, "around")
	times["around"] = around
	var bars []Bar
	var own []Bar
	sum := 0.0
	for _, name := range names {
		bar := Bar{Name: name, Value: Median(times[name]), Text: millis(Median(times[name]))}
		bars = append(bars, bar)
		if !waits[name] {
			own = append(own, bar)
			sum += bar.Value
		}
	}
	p.picture("steps.svg", "the duration of each step", Bars("A rollout of two instances, step by step", bars))
	slices.SortFunc(own, func(a, b Bar) int { return cmp.Compare(b.Value, a.Value) })
	p.printf("\nWithout `start`, `watch`, `drain` and `stop`, whose length depends on the app, a rollout took %s. The largest parts of that, and what happens in them:\n\n", millis(sum))
	for _, bar := range own[:min(3, len(own))] {
		p.printf("- %s, %s: %s\n", bar.Name, bar.Text, reasons[bar.Name])
	}
}

// waits are the steps that last as long as the app takes.
var waits = map[string]bool{"start": true, "watch": true, "drain": true, "stop": true}

// reasons say what a step's time is spent on.
var reasons = map[string]string{
	"hold":   "one dialogue with the kernel finds all listeners, and one program steers them.",
	"ready":  "the app boots, as far as it does so after its process has started; each instance is asked once, by itself.",
	"shift":  "the same program gets other sockets.",
	"commit": "a file and a link are written and synced to the disk.",
	"forget": "unit files are removed; if systemd must know of that, there is one `daemon-reload`, which apps that roll out side by side share.",
	"around": "systemd sets up a sandbox and starts the helper in it.",
}

// scenes draws one deploy of ours and one plain swap.
func (p *page) scenes(all []*seen) {
	p.heading("A rollout, and a plain swap, as clients see them")
	p.printf("One deploy of each under %d clients on fresh connections; the app dies of SIGTERM. The pictures show the answers in each %d ms, by generation and instance, and in red the requests that were lost.\n", freshClients, bin.Milliseconds())
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
