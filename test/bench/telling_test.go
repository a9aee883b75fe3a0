//go:build bench

package bench

import (
	"fmt"
	"strings"
	"time"

	"app-rollout/test/load"
	"app-rollout/test/machine"
)

// cost is what answers cost while old instances drain.
type cost struct {
	perSecond float64 // answers
	cpu       float64 // nanoseconds of the machine for one of them, the clients' not among it
}

// letGo is the file that ends the request for which an instance drains.
const letGo = "/run/let-go"

// telling measures what answers cost while instances drain, and how much of that is due
// to telling: with it and without, in turn.
func (p *page) telling(b *bed) {
	pairs := max(1, min(5, deploys()/4))
	var told, others []cost // the ratios of each pair
	for n := range pairs {
		var byOld, byNew [2]cost
		hows := []string{"close", "leave"}
		for i := range hows {
			i = (i + n) % 2 // each is first in turn
			byOld[i], byNew[i] = b.draining(fmt.Sprintf("c%d", n), hows[i])
		}
		told = append(told, cost{byOld[0].perSecond / byOld[1].perSecond, byOld[0].cpu / byOld[1].cpu})
		others = append(others, cost{byNew[0].perSecond / byNew[1].perSecond, byNew[0].cpu / byNew[1].cpu})
		b.t.Logf("telling: old instances %+v, new ones %+v", byOld, byNew)
	}
	middle := func(of []cost) (perSecond, cpu string) {
		var a, c []float64
		for _, x := range of {
			a, c = append(a, x.perSecond), append(c, x.cpu)
		}
		return ratio(Median(a)), ratio(Median(c))
	}
	p.printf("\n### What telling costs\n\n%d clients without a pause ask while one request holds up the drain: first the old instances, on connections that they keep although they are told to close, then the new ones. A connection is told once: what is measured of the old ones is that each further packet is looked at. The figures are ratios to the same with `SYSTEMD_CLUSTER_DRAIN_KEEPALIVE=leave`, measured in turn; medians of %d. CPU is that of apps and helper.\n\n", tellingClients, pairs)
	table := NewTable("answers of", "requests/s × leave", "CPU per request × leave")
	a, c := middle(told)
	table.Row("old instances: each client is told once", a, c)
	a, c = middle(others)
	table.Row("new instances: nobody is told", a, c)
	p.printf("%s", table)
}

const tellingClients = 16

// draining replaces the instances, and measures answers of the old ones and of the new
// ones meanwhile. How is SYSTEMD_CLUSTER_DRAIN_KEEPALIVE.
func (b *bed) draining(generation, how string) (byOld, byNew cost) {
	b.t.Helper()
	lines := []string{"SYSTEMD_CLUSTER_DRAIN_KEEPALIVE=" + how, "SYSTEMD_CLUSTER_DRAIN_SEC=60"}
	b.replace(generation+"-"+how, lines...) // what is drained must be told as well
	b.Sh("rm -f " + letGo)
	hold := b.Load(load.Options{Addr: address, Workers: 1, Once: true, Path: "/?until=" + letGo, Timeout: time.Minute})
	old := b.Load(load.Options{Addr: address, Workers: tellingClients, Keep: true, Stay: true, Timeline: true})
	b.established(1 + tellingClients)
	b.goEnv(generation+"-"+how+"-new", lines...)
	b.Must("systemctl", "start", "--no-block", "app-rollout@shop.service")
	b.Wait("the drain", time.Minute, func() bool {
		return strings.Contains(b.Property("app-rollout@shop.service", "StatusText"), "waiting for")
	})
	if how == "close" && b.tellers() == 0 {
		b.t.Fatal("the programs that tell clients are not seen while they do")
	}
	byOld = b.costOf(old)
	byNew = b.costOf(b.Load(load.Options{Addr: address, Workers: tellingClients, Keep: true, Timeline: true}))
	b.Sh("touch " + letGo)
	b.Wait("the end of the rollout", time.Minute, func() bool {
		return b.Property("app-rollout@shop.service", "ActiveState") == "inactive"
	})
	if r := hold.Stop(); r.Lost() > 0 {
		b.t.Fatalf("the request that was to hold up the drain: %v", r.Failures)
	}
	return byOld, byNew
}

// costOf measures for a while, and ends the clients.
func (b *bed) costOf(c *machine.Load) cost {
	b.t.Helper()
	time.Sleep(300 * time.Millisecond)
	from, before := time.Now(), b.cpu()
	time.Sleep(1500 * time.Millisecond)
	to, after := time.Now(), b.cpu()
	r := c.Stop().Between(from, to)
	if r.Answered() == 0 {
		b.t.Fatalf("nobody was answered: %v", r)
	}
	return cost{float64(r.Answered()) / to.Sub(from).Seconds(), float64(after-before) / float64(r.Answered())}
}
