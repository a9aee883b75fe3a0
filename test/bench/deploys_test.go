//go:build bench

package bench

import (
	"fmt"
	"slices"
	"time"

	"app-rollout/test/load"
	"app-rollout/units/store"
)

// span is a stretch of time.
type span struct{ from, to time.Time }

func (s span) took() time.Duration { return s.to.Sub(s.from) }

// behaviour is how the app that is deployed behaves.
type behaviour struct {
	name, about string
	stop        string // STOP
	slow        bool   // some of the requests take slowAnswer
}

var behaviours = []*behaviour{
	{name: "dies", about: "dies of SIGTERM", stop: "dies"},
	{name: "graceful", about: "stops gracefully", stop: "graceful"},
	{name: "slow", about: fmt.Sprintf("answers some requests after %d s", slowAnswer), stop: "dies", slow: true},
}

// slowAnswer is how many seconds a slow request takes, and slowClients how many
// of them are in hand when a deploy comes.
const slowAnswer, slowClients = 3, 8

// drainLimit is how many seconds app-rollout is told to wait for what is in hand, at most:
// longer than the app's requests may take.
const drainLimit = 3 * slowAnswer

// deploys is how many a run measures; those of a slow app are fewer.
func (a *behaviour) deploys() int {
	if a.slow {
		return min(5, deploys())
	}
	return deploys()
}

// deploySeries is what was seen of several deploys of one peer, of an app of
// one behaviour.
type deploySeries struct {
	fresh, kept, posting *load.Report
	slow                 *load.Report // of the clients whose answers take their time
	deploys              []span
	records              []*store.Receipt // ours
	failed               int              // deploys whose command failed
}

// seen is all that was seen of one peer.
type seen struct {
	*peer
	series map[string]*deploySeries // by the app's behaviour
	scene  *deploySeries            // three deploys with fresh clients only, the app dies
	rate   *rate
	bad    *badDeploy
}

// settle is the pause between two deploys. In its first half the deploy may still have
// an effect.
const settle = 600 * time.Millisecond

// peers measures one after the other, and what the app itself needs for a
// deploy.
func (b *bed) peers() (all []*seen, n *need) {
	n = &need{stop: map[string][]float64{}}
	for _, p := range b.list() {
		b.t.Logf("%s", p.name)
		s := &seen{peer: p, series: map[string]*deploySeries{}}
		all = append(all, s)
		for _, app := range behaviours {
			if p.graceful && app.name == "dies" {
				continue
			}
			b.Sh(fmt.Sprintf("sysctl -q -w net.ipv4.tcp_migrate_req=%d", p.migrate))
			b.env("g0", app, false)
			b.Sh(p.start)
			b.answered("g0")
			if p.baseline && !app.slow {
				b.need(n, app)
			}
			whole := app.name == "graceful" && !p.graceful && !p.variant
			if whole {
				s.rate = b.rate(p)
			}
			s.series[app.name] = b.deploySeries(p, app, b.clients(app), 1, app.deploys())
			if app.name == "dies" && (p.ours || p.baseline) {
				s.scene = b.deploySeries(p, app, b.freshOnly(), deploys()+1, 3)
			}
			if whole {
				s.bad = b.badDeploy(p, app)
			}
			if r := b.script(p.stop); r.Code != 0 {
				b.t.Fatalf("%s: stop: %s%s", p.name, r.Out, r.Err)
			}
			b.Wait("the port to be free", 20*time.Second, func() bool { return b.Sh("ss -Hltn 'sport = :8080'") == "" })
		}
	}
	return all, n
}

// env writes the app's environment for the next start or deploy.
func (b *bed) env(generation string, app *behaviour, bad bool) {
	b.t.Helper()
	text := fmt.Sprintf("GENERATION=%s\nSTOP=%s\nSYSTEMD_CLUSTER_DRAIN_SEC=%d\nBAD=%d\n", generation, app.stop, drainLimit, map[bool]int{true: 1}[bad])
	b.Write("/etc/bench/env", text, 0o644)
}

// deploySeries deploys some times. The count of its first deploy is first.
func (b *bed) deploySeries(p *peer, app *behaviour, c clients, first, times int) *deploySeries {
	b.t.Helper()
	s := &deploySeries{}
	time.Sleep(settle)
	for n := first; n < first+times; n++ {
		b.env(fmt.Sprintf("g%d", n), app, false)
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
	s.fresh, s.kept, s.posting, s.slow = c.stop()
	b.t.Logf("  %s: %v each; fresh: %v; kept: %v; posting: %v; slow: %v", app.name, s.median(), s.fresh, s.kept, s.posting, s.slow)
	if p.ours && s.fresh.Lost()+s.kept.Lost()+s.posting.Lost()+s.slow.Lost() > 0 {
		b.t.Logf("  %v %v %v %v", s.fresh.Failures, s.kept.Failures, s.posting.Failures, s.slow.Failures)
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
