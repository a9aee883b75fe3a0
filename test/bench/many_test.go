//go:build bench

package bench

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"app-rollout/rollout-helper/status"
	"app-rollout/test/machine"
)

// many measures one run for many new apps, and then how long it takes to look at them.
func (p *page) many() {
	const looks = 7
	t := p.t
	p.heading("Many apps")
	p.printf("One `systemctl start app-rollout.service` for so many new apps of two instances of a small Go server, on Debian 13. Each app has the usual times: 60 s to become ready, and 3 s in which it is watched. \"Reloads\" are systemd's, and \"reload\" is what the longest one took. Then all is at rest, and `app-rollout status` and `check` look at all apps, with their output to a file. The figures for these are medians of %d.\n\n", looks)
	table := NewTable("new apps", "instances that are ready", "the run took", "per app", "reloads", "reload", "status", "per app", "status --json", "check", "per app")
	for _, n := range []int{40, 200, 500} {
		m := machine.Boot(t, machine.Options{Release: "trixie", Install: true, Layers: []string{toolLayer(t), machine.Apps(t)}})
		m.Sh(fmt.Sprintf("/opt/bench/tool apps %d new", n))
		before := len(reloadTimes(p, m))
		took := parsed(p, m.Sh("began=$(date +%s%N); systemctl start app-rollout.service; echo $(($(date +%s%N) - began))")) / 1e6
		var report status.Report
		if err := json.Unmarshal([]byte(m.Must("app-rollout", "status", "--json")), &report); err != nil {
			t.Fatal(err)
		}
		ready := 0
		for _, a := range report.Apps {
			if a.Generation == nil {
				continue
			}
			for _, i := range a.Instances {
				if i.Up() {
					ready++
				}
			}
		}
		reloads := reloadTimes(p, m)[before:]
		look := func(command string) float64 {
			var all []float64
			for range looks {
				all = append(all, parsed(p, m.Sh("began=$(date +%s%N); app-rollout "+command+" >/tmp/out; echo $(($(date +%s%N) - began))"))/1e6)
			}
			t.Logf("%s of %d apps: %v", command, n, all)
			return Median(all)
		}
		statusTook, jsonTook, checkTook := look("status"), look("status --json"), look("check")
		each := func(ms float64) string { return millis(ms / float64(n)) }
		table.Row(strconv.Itoa(n), fmt.Sprintf("%d of %d", ready, 2*n), millis(took), each(took), strconv.Itoa(len(reloads)), millis(slices.Max(append(reloads, 0))),
			millis(statusTook), each(statusTook), millis(jsonTook), millis(checkTook), each(checkTook))
	}
	p.printf("%s", table)
}

// reloadTimes are how long systemd's reloads since the boot have taken, in milliseconds,
// as systemd says it.
func reloadTimes(p *page, m *machine.Machine) (all []float64) {
	m.Must("journalctl", "--sync")
	for line := range strings.Lines(m.Must("journalctl", "-q", "-b", "-o", "cat", "_PID=1")) {
		if text, found := strings.CutPrefix(strings.TrimSpace(line), "Reloading finished in "); found {
			text, _, _ = strings.Cut(text, " ms")
			all = append(all, parsed(p, text))
		}
	}
	return all
}
