//go:build bench

package bench

import (
	"time"

	"app-rollout/test/load"
)

// rate is what was measured of a peer between deploys. All but the last three are
// ratios to one process that is asked directly.
type rate struct {
	fresh, kept       float64 // answers a second
	freshP99, keptP99 float64
	cpu               float64 // of machine and app, for an answer on a fresh connection
	direct            float64 // that process's answers a second, fresh
	resident          float64 // MiB of the tool
	processes         int
}

// full asks as fast as it can for a while.
func (b *bed) full(address string, keep bool) *load.Report {
	b.t.Helper()
	c := b.Load(load.Options{Addr: address, Workers: 16, Keep: keep})
	time.Sleep(2 * time.Second)
	return c.Stop()
}

func perSecond(r *load.Report) float64 {
	return float64(r.Answered()) / (float64(r.End-r.Start) / 1e9)
}

// rate measures a peer and one process of the app that is asked directly, in turn, so
// that other load on the machine meets both.
func (b *bed) rate(p *peer) *rate {
	b.t.Helper()
	b.Sh(release(9100) + "systemctl start node@9100; until ss -Hltn 'sport = :9100' | grep -q .; do sleep 0.02; done")
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
