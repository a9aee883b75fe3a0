//go:build bench

package bench

import (
	"context"
	"strings"
	"time"

	"app-rollout/test/load"
	"app-rollout/test/machine"
)

// badDeploy is what was measured of a bad deploy.
type badDeploy struct {
	report  *load.Report
	refused bool         // the command said so
	last    *load.Report // of the last second
	booted  *load.Report // after a reboot with the bad one pending; of nothing if nobody served
}

// badTime is how long a bad deploy is watched. It answers 500 for five seconds and
// exits; by the end of badTime a tool that restarts it has done so.
const badTime = 8 * time.Second

// badDeploy deploys an app that answers 500 for five seconds and exits, and
// then reboots the machine.
func (b *bed) badDeploy(p *peer, app *behaviour) *badDeploy {
	b.t.Helper()
	bad := &badDeploy{}
	b.env("bad", app, true)
	c := b.Load(load.Options{Addr: address, Workers: 8, Pause: 10 * time.Millisecond, Timeline: true})
	time.Sleep(settle)
	n := app.deploys() + 1
	began := time.Now()
	done := make(chan machine.Result)
	go func() { done <- b.script("timeout 15 sh -euc " + quoted(p.deploy(n))) }()
	time.Sleep(time.Until(began.Add(badTime)))
	bad.report = c.Stop()
	bad.last = bad.report.Between(began.Add(badTime-time.Second), began.Add(2*badTime))
	r := <-done
	bad.refused = r.Code != 0
	b.t.Logf("  bad: status %d, %v", r.Code, bad.report)

	if bad.refused {
		n--
	}
	if p.enable != nil {
		b.Sh(p.enable(n))
	}
	b.Reboot()
	bad.booted = b.served()
	b.t.Logf("  bad, after the reboot: %v", bad.booted)
	// The bad instances must not keep the test from ending.
	b.env("good", app, false)
	return bad
}

// served is what two seconds of clients see once somebody answers at all, or
// the report of nothing.
func (b *bed) served() *load.Report {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		// A proxy before the app has answers of its own.
		r := b.Run(ctx, "python3", "-c", "import http.client as h; c = h.HTTPConnection('"+address+"', timeout=2); c.request('GET', '/'); print(c.getresponse().read().decode())")
		if strings.HasPrefix(r.Out, "g") || strings.HasPrefix(r.Out, "bad") {
			c := b.Load(load.Options{Addr: address, Workers: 8, Pause: 10 * time.Millisecond})
			time.Sleep(2 * time.Second)
			return c.Stop()
		}
	}
	return load.Of(nil)
}

// quoted is a text as one word for a shell.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
