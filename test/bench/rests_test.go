//go:build bench

package bench

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"app-rollout/test/load"
	"app-rollout/test/machine"
	"app-rollout/units/store"
)

// rest is how long clients rest between two requests: from From to From+Vary.
type rest struct {
	name       string
	clients    int
	from, vary time.Duration
}

// rests are those that are measured. Those of a set ask beside one another: who asks
// without a pause leaves the others little of the CPUs.
var rests = []struct {
	name string
	set  []rest
}{
	{"busy", []rest{
		{"none", 1, 0, 0},
		{"4 to 6 ms", 8, 4 * time.Millisecond, 2 * time.Millisecond},
		{"40 to 60 ms", 32, 40 * time.Millisecond, 20 * time.Millisecond},
	}},
	{"resting", []rest{
		{"400 to 600 ms", 150, 400 * time.Millisecond, 200 * time.Millisecond},
		{"1 to 5 s", 300, time.Second, 4 * time.Second},
	}},
}

// load are the clients that rest so. They keep their connections, and look whether the
// server has closed, before they ask, or do not look.
func (r rest) load(b *bed, address string, look bool) *machine.Load {
	return b.Load(load.Options{Addr: address, Workers: r.clients, Pause: r.from, Vary: r.vary, Keep: true, Look: look})
}

// timeout is the middle of the pauses.
func (r rest) timeout() time.Duration { return r.from + r.vary/2 }

// race is what was seen of one kind of clients in deploys: those that look and those that do not.
type race struct{ looking, blind *load.Report }

// closes is how many connections were closed at rest, lost requests among them.
func closes(r *load.Report) int { return r.Closed + r.Lost() }

// perThousand is how many of a thousand such closes met a request on its way.
func perThousand(r *load.Report) string {
	if closes(r) == 0 {
		return "–"
	}
	return fmt.Sprintf("%.1f", 1000*float64(r.Lost())/float64(closes(r)))
}

// tried is what an experiment has found that is not part of a run.
const tried = "Tried, and not built in: to wait for one more request on each connection that has rested for less than a tenth of the default drain time, 3 s, instead of a quarter of a second. " +
	"On a busy machine, in 12 deploys each, 600 clients that rest 1 to 5 s and 300 that rest half a second met drains of 3.0 s instead of 1.0 s. " +
	"Of those that rest longest and look, 300 a deploy, 50 instead of 197 connections were closed at rest, and in all deploys 0 instead of 10 requests were lost. Of as many that do not look, 49 instead of 197 a deploy lost one. " +
	"So it makes the race rarer as far as the clients ask within that time, and makes every deploy longer that comes while any client rests. Who would rather wait sets `SYSTEMD_CLUSTER_DRAIN_UNTIL=closed`."

func (p *page) rests(b *bed) {
	times := min(10, deploys())
	p.printf("\n### Clients that rest\n\n"+
		"%d deploys for the first three kinds of clients, and as many for the others, with a watch of 1 s. Who asks within a quarter of a second is waited for, and told to close. A connection that was seen while its request was answered is waited for up to a second, because the answer may go on. "+
		"A connection that rests longer is closed by the stop of its app, unless it is told while others are waited for. "+
		"Most HTTP libraries look, before they ask, whether the server has closed the connection, and then make a new one. So do those of the columns before \"not looking\". What they lose was on its way when the app closed. Those that do not look are as many beside them, and lose a request on each connection that was closed at rest. "+
		"In the last columns the clients that look meet an app that closes a connection by itself after a rest as long as the middle of theirs: without a deploy, all the time.\n\n", times)
	table := NewTable("rest", "clients", "lost per deploy", "closed at rest per deploy", "lost per 1,000 closes", "not looking: lost per deploy", "own time-out: closes per minute", "lost per 1,000 closes")
	each := func(n int) string { return fmt.Sprintf("%.1f", float64(n)/float64(times)) }
	var drains []string
	for _, rests := range rests {
		races, records := b.races(rests.set, times)
		var took []float64
		for _, r := range records {
			took = append(took, stepOf(r, "drain"))
		}
		drains = append(drains, fmt.Sprintf("under the %s clients %s (median; %s at most)", rests.name, millis(Median(took)), millis(slices.Max(took))))
		for i, own := range b.ownTimeouts(rests.set) {
			r, looking := rests.set[i], races[i].looking
			minutes := float64(own.End-own.Start) / float64(time.Minute)
			table.Row(r.name, strconv.Itoa(r.clients), each(looking.Lost()), each(closes(looking)), perThousand(looking), each(races[i].blind.Lost()),
				fmt.Sprintf("%.0f", float64(closes(own))/max(minutes, 1e-9)), perThousand(own))
		}
	}
	p.printf("%s\nThe drains took %s.\n\n%s\n", table, strings.Join(drains, ", "), tried)
}

// races has clients ask while the instances are replaced so many times.
func (b *bed) races(rests []rest, times int) (all []race, records []*store.Receipt) {
	b.t.Helper()
	// In the watch the helper comes to know the connections, as it does by default.
	const watched = "SYSTEMD_CLUSTER_WATCH_SEC=1"
	b.replace("g0", watched)
	clients := 0
	var looking, blind []*machine.Load
	for _, r := range rests {
		looking, blind = append(looking, r.load(b, address, true)), append(blind, r.load(b, address, false))
		clients += 2 * r.clients
	}
	for n := range times {
		// Who was closed at rest comes back only when its rest is over.
		b.established(clients)
		records = append(records, b.replace(fmt.Sprintf("g%d", n+1), watched))
		b.t.Logf("rests: %s, drain %.0f ms, stop %.0f ms", records[n].Connections(), stepOf(records[n], "drain"), stepOf(records[n], "stop"))
	}
	b.established(clients)
	for i, r := range rests {
		all = append(all, race{looking: looking[i].Stop(), blind: blind[i].Stop()})
		b.t.Logf("rests: %s: looking: %v, %d found closed; not looking: %v", r.name, all[i].looking, all[i].looking.Closed, all[i].blind)
	}
	return all, records
}

// ownTimeouts has the same clients ask apps that close connections at rest by
// themselves. Those that do not rest are not asked.
func (b *bed) ownTimeouts(rests []rest) []*load.Report {
	b.t.Helper()
	reports := make([]*load.Report, len(rests))
	clients := make([]*machine.Load, len(rests))
	for i, r := range rests {
		if r.timeout() == 0 {
			continue
		}
		port := 9200 + i
		b.Sh(fmt.Sprintf("systemd-run --quiet --unit=own-%d --setenv=PORT=%d --setenv=IDLE=%v /opt/apps/server; until ss -Hltn 'sport = :%d' | grep -q .; do sleep 0.02; done", i, port, r.timeout(), port))
		clients[i] = r.load(b, fmt.Sprintf("127.0.0.1:%d", port), true)
	}
	time.Sleep(15 * time.Second)
	for i, c := range clients {
		if reports[i] = load.Of(nil); c == nil {
			continue
		}
		reports[i] = c.Stop()
		b.t.Logf("rests: %s, own time-out: %v, %d found closed", rests[i].name, reports[i], reports[i].Closed)
		b.Sh(fmt.Sprintf("systemctl stop own-%d", i))
	}
	return reports
}
