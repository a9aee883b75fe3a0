//go:build bench

package bench

import (
	"fmt"
	"strings"

	"app-rollout/test/machine"
)

// most is the number of apps that the generator takes.
const most = 4096

// generator measures what the boot waits for. No machine is booted with so
// many apps: the generator is run by hand, in a mount namespace in which
// /etc/app-rollout and /var/lib/app-rollout are others, so that the machine's
// own systemd never hears of them.
func (p *page) generator() {
	t := p.t
	m := machine.Boot(t, machine.Options{Install: true, Layers: []string{toolLayer(t), machine.Apps(t)}})
	const run = "/usr/lib/systemd/system-generators/app-rollout-generator"
	measure := func(n, times int, state, command string) (wall, cpu float64, status int) {
		out := m.Sh(fmt.Sprintf(`unshare --mount sh -euc '
			mount -t tmpfs -o mode=755 tmpfs /etc/app-rollout
			mount -t tmpfs -o mode=700 tmpfs /var/lib/app-rollout
			[ %d = 0 ] || /opt/bench/tool apps %d %s
			/opt/bench/tool time %d %s'`, n, n, state, times, command))
		var walls, cpus []float64
		for line := range strings.Lines(out) {
			var w, c float64
			if _, err := fmt.Sscan(line, &w, &c, &status); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			walls, cpus = append(walls, w), append(cpus, c)
		}
		return Median(walls), Median(cpus), status
	}
	bare, _, _ := measure(0, 50, "", "/opt/bench/tool nothing")

	p.heading("The generator, for which the boot waits")
	p.printf("Median wall time of the generator run by hand, on a tmpfs, against running a static Go program that does nothing (%s). Each app has two instances. \"Recorded\" apps have been rolled out before, and their frozen units are copied; \"new\" ones are parsed from their `.env`.\n\n", millis(bare))
	table := NewTable("apps", "recorded: × bare", "time", "per app", "CPU", "new: × bare", "time", "per app", "CPU")
	series := map[string]*Series{"recorded": {Name: "recorded"}, "new": {Name: "new"}}
	var perHundred, perThousand float64
	for _, n := range []int{1, 10, 100, 1000, most, 10000} {
		cells := []string{fmt.Sprint(n)}
		for _, state := range []string{"recorded", "new"} {
			times := max(3, min(20, 2000/n))
			wall, cpu, status := measure(n, times, state, run)
			emitted := min(n, most)
			star := ""
			if status != 0 {
				star = "*"
			}
			cells = append(cells, ratio(wall/bare)+star, millis(wall), millis(wall/float64(emitted)), millis(cpu))
			if n > most || status != 0 {
				continue
			}
			s := series[state]
			s.X, s.Y = append(s.X, float64(n)), append(s.Y, wall)
			if state == "recorded" && n == 100 {
				perHundred = wall
			} else if state == "recorded" && n == 1000 {
				perThousand = wall
			}
		}
		table.Row(cells...)
		t.Logf("generator: %v", cells)
	}
	p.printf("%s\n\\* It says so, with exit status 1, and what it has written counts: there are more than the %d apps that it takes, or the 1.8 s that it has for new ones were over.\n\n", table, most)
	for _, state := range []string{"recorded", "new"} {
		s := series[state]
		_, each := Line(s.X, s.Y)
		p.printf("- %s: grows with the %.2f power of the number of apps from 100 on; %s for each app more.\n", state, Exponent(s.X[2:], s.Y[2:]), millis(each))
	}
	p.printf("- The goal is 100 apps in less than 25 ms and 1,000 in less than 150 ms on two CPUs: here %s and %s.\n", millis(perHundred), millis(perThousand))
	p.picture("generator.svg", "the generator's time over the number of apps", LogLog("The generator: time over the number of apps", "apps", "ms", []Series{*series["recorded"], *series["new"]}))
}
