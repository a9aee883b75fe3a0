//go:build bench

package bench

import "time"

// need is the part of a deploy that the app itself takes, in milliseconds: two
// instances from their start until they listen, and from SIGTERM to their end, which
// depends on the app's behaviour.
type need struct {
	start []float64
	stop  map[string][]float64
}

// needTimes is how often it is measured for each behaviour.
const needTimes = 7

func (n *need) whole(app *behaviour) time.Duration {
	return time.Duration((Median(n.start) + Median(n.stop[app.name])) * float64(time.Millisecond))
}

// need starts and stops two instances that get no requests, beside those that serve
// the load.
func (b *bed) need(n *need, app *behaviour) {
	b.t.Helper()
	c := b.clients(app)
	took := func(text string) float64 {
		r := b.script(text)
		if r.Code != 0 {
			b.t.Fatalf("%s: %s%s", text, r.Out, r.Err)
		}
		return float64(r.Took) / float64(time.Millisecond)
	}
	for range needTimes {
		n.start = append(n.start, took(startPair(9101, 9102)))
		n.stop[app.name] = append(n.stop[app.name], took("systemctl stop node@9101 node@9102\n"))
	}
	c.stop()
	b.t.Logf("  the app itself: %+v", n)
}
