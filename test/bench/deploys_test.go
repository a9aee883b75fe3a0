//go:build bench

package bench

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"app-rollout/test/load"
	"app-rollout/test/machine"
	"app-rollout/units"
)

// span is a stretch of time.
type span struct{ from, to time.Time }

func (s span) took() time.Duration { return s.to.Sub(s.from) }

// series is what was seen of several deploys of one peer, with an app that
// stops in one way.
type deploySeries struct {
	fresh, kept *load.Report
	deploys     []span
	records     []*units.Record // ours
	failed      int             // deploys whose command failed
}

// rate is what was seen of a peer between deploys. All but the last three are
// ratios to one process asked directly.
type rate struct {
	fresh, kept       float64 // answers a second
	freshP99, keptP99 float64
	cpu               float64 // of machine and app, for an answer on a fresh connection
	direct            float64 // that process's answers a second, fresh
	resident          float64 // MiB of the tool
	processes         int
}

// badDeploy is what was seen of a bad one.
type badDeploy struct {
	report  *load.Report
	refused bool         // the command said so
	last    *load.Report // of the tenth second
}

// seen is all that was seen of one peer.
type seen struct {
	*peer
	series map[string]*deploySeries // by how the app stops: "dies", "graceful"
	scene  *deploySeries            // three deploys with fresh clients only, the app dies
	rate   *rate
	bad    *badDeploy
}

// stops are the two ways of the app to take SIGTERM.
var stops = []string{"dies", "graceful"}

// settle is how long a deploy's after-effects may take to show, and how long
// there is calm between two.
const settle = time.Second

// peers measures one after the other.
func (b *bed) peers() []*seen {
	var all []*seen
	for _, p := range b.list() {
		b.t.Logf("%s", p.name)
		s := &seen{peer: p, series: map[string]*deploySeries{}}
		all = append(all, s)
		b.Sh(fmt.Sprintf("sysctl -q -w net.ipv4.tcp_migrate_req=%d", p.migrate))
		for _, stop := range stops {
			if p.graceful && stop == "dies" {
				continue
			}
			b.env("g0", stop, false)
			b.Sh(p.start)
			b.answered("g0")
			if stop == "graceful" && !p.graceful {
				s.rate = b.rate(p)
			}
			s.series[stop] = b.deploySeries(p, stop, b.clients(), 1, deploys())
			if stop == "dies" && (p.ours || p.name == "plain swap") {
				s.scene = b.deploySeries(p, stop, b.freshOnly(), deploys()+1, 3)
			}
			if stop == "graceful" && !p.graceful {
				s.bad = b.badDeploy(p)
			}
			if r := b.script(p.stop); r.Code != 0 {
				b.t.Fatalf("%s: stop: %s%s", p.name, r.Out, r.Err)
			}
			b.Wait("the port to be free", 20*time.Second, func() bool { return b.Sh("ss -Hltn 'sport = :8080'") == "" })
		}
	}
	return all
}

// env writes the app's environment for the next start or deploy.
func (b *bed) env(generation, stop string, bad bool) {
	b.t.Helper()
	text := "GENERATION=" + generation + "\nSTOP=" + stop + "\n"
	if bad {
		text += "BAD=1\n"
	} else {
		text += "BAD=0\n"
	}
	b.Write("/etc/bench/env", text, 0o644)
}

// deploySeries deploys some times, the first one as the first-th.
func (b *bed) deploySeries(p *peer, stop string, c clients, first, times int) *deploySeries {
	b.t.Helper()
	s := &deploySeries{}
	time.Sleep(settle)
	for n := first; n < first+times; n++ {
		b.env(fmt.Sprintf("g%d", n), stop, false)
		began := time.Now()
		if r := b.script(p.deploy(n)); r.Code != 0 {
			s.failed++
			b.t.Logf("%s: deploy: status %d: %s %s", p.name, r.Code, r.Out, r.Err)
		}
		s.deploys = append(s.deploys, span{began, time.Now()})
		if p.ours {
			s.records = append(s.records, b.generation("shop").Rollout)
		}
		time.Sleep(settle)
	}
	s.fresh, s.kept = c.stop()
	b.t.Logf("  %s: fresh: %v; kept: %v", stop, s.fresh, s.kept)
	if p.ours && s.fresh.Lost()+s.kept.Lost() > 0 {
		b.t.Logf("  %v %v", s.fresh.Failures, s.kept.Failures)
	}
	return s
}

// split divides a report into what happened while a deploy was under way, or
// soon after, and the rest.
func (s *deploySeries) split(r *load.Report) (inside, outside *load.Report) {
	in := func(start, end int64) bool {
		return slices.ContainsFunc(s.deploys, func(d span) bool {
			return end >= d.from.UnixNano() && start < d.to.Add(settle/2).UnixNano()
		})
	}
	var i, o []load.Answer
	for _, a := range r.Answers {
		if in(a.Start, a.End) {
			i = append(i, a)
		} else {
			o = append(o, a)
		}
	}
	return load.Of(i), load.Of(o)
}

// each is how many were lost in a deploy, on average.
func (s *deploySeries) each(r *load.Report) float64 {
	return float64(r.Lost()) / float64(len(s.deploys))
}

func (s *deploySeries) median() time.Duration {
	var took []float64
	for _, d := range s.deploys {
		took = append(took, float64(d.took()))
	}
	return time.Duration(Median(took))
}

// full asks as fast as it can, for a while.
func (b *bed) full(address string, keep bool) *load.Report {
	b.t.Helper()
	c := b.Load(load.Options{Addr: address, Workers: 16, Keep: keep})
	time.Sleep(2 * time.Second)
	return c.Stop()
}

func perSecond(r *load.Report) float64 {
	return float64(r.Answered()) / (float64(r.End-r.Start) / 1e9)
}

// rate measures a peer, and one process of the app that is asked directly, in
// turn, so that both meet the same of whatever else goes on.
func (b *bed) rate(p *peer) *rate {
	b.t.Helper()
	b.Sh("systemctl start node@9100; until ss -Hltn 'sport = :9100' | grep -q .; do sleep 0.02; done")
	var all []rate
	for range 3 {
		var r rate
		// measure gives each figure of who is asked at the address.
		measure := func(address string) (fresh, kept, freshP99, keptP99, cpu float64) {
			before := b.cpu()
			f := b.full(address, false)
			cpu = float64(b.cpu()-before) / float64(max(f.Answered(), 1))
			k := b.full(address, true)
			return perSecond(f), perSecond(k), float64(f.P99), float64(k.P99), cpu
		}
		f0, k0, fp0, kp0, c0 := measure("127.0.0.1:9100")
		f, k, fp, kp, c := measure(address)
		r.fresh, r.kept, r.freshP99, r.keptP99, r.cpu = f/f0, k/k0, fp/fp0, kp/kp0, c/c0
		r.direct = f0
		all = append(all, r)
	}
	b.Sh("systemctl stop node@9100")
	middle := func(of func(r rate) float64) float64 {
		var values []float64
		for _, r := range all {
			values = append(values, of(r))
		}
		return Median(values)
	}
	r := &rate{
		fresh:    middle(func(r rate) float64 { return r.fresh }),
		kept:     middle(func(r rate) float64 { return r.kept }),
		freshP99: middle(func(r rate) float64 { return r.freshP99 }),
		keptP99:  middle(func(r rate) float64 { return r.keptP99 }),
		cpu:      middle(func(r rate) float64 { return r.cpu }),
		direct:   middle(func(r rate) float64 { return r.direct }),
	}
	r.resident, r.processes = b.resident(p.tool)
	b.t.Logf("  between deploys: %+v", *r)
	return r
}

// badDeploy deploys an app that answers 500 for five seconds and exits.
func (b *bed) badDeploy(p *peer) *badDeploy {
	b.t.Helper()
	bad := &badDeploy{}
	b.env("bad", "graceful", true)
	c := b.Load(load.Options{Addr: address, Workers: 8, Pause: 10 * time.Millisecond, Timeline: true})
	time.Sleep(settle / 2)
	began := time.Now()
	done := make(chan machine.Result)
	go func() { done <- b.script("timeout 15 sh -euc " + quoted(p.deploy(deploys()+1))) }()
	time.Sleep(time.Until(began.Add(10 * time.Second)))
	bad.report = c.Stop()
	bad.last = bad.report.Between(began.Add(9*time.Second), began.Add(20*time.Second))
	r := <-done
	bad.refused = r.Code != 0
	b.t.Logf("  bad: status %d, %v", r.Code, bad.report)
	// What was bad must not stand in the way of the end.
	b.env("good", "graceful", false)
	return bad
}

// quoted is a text as one word of a shell's.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
