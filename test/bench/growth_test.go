//go:build bench

package bench

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"app-rollout/test/machine"
)

// usage prints what a rollout's unit has used, which is known only as long as its
// cgroup exists. It takes time itself, because systemd sets up the sandbox for it once
// more.
const (
	usage     = "/etc/systemd/system/app-rollout@.service.d/usage.conf"
	usageText = `[Service]
ExecStopPost=sh -c 'sed -n "s/^usage_usec/used/p" /sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup)/cpu.stat'
`
)

// growth measures rollouts of more and more instances of a program that starts and
// stops at once, so that only the work of app-rollout and of systemd is left.
func (p *page) growth() {
	t := p.t
	m := machine.Boot(t, machine.Options{Install: true, Packages: []string{"strace"}, Layers: []string{machine.Apps(t)}})
	b := &bed{Machine: m, t: t}
	const rollouts = 5
	p.heading("The rollout as it grows")
	p.printf("All instances of a small Go server are replaced by as many new ones, without load. \"Own share\" is the whole `systemctl start`, as seen from outside, without the steps start, watch, drain and stop. Steering is hold and shift. CPU is the service's, and beside it PID 1's; it comes from further rollouts, and includes a second sandbox, which is needed to read it. D-Bus calls are the helper's messages to PID 1, counted by `strace` in one more rollout. These further rollouts are not timed. The figures are medians of %d rollouts.\n\n", rollouts)
	table := NewTable("instances", "own share × 2 instances", "own share", "whole", "start", "ready", "steering", "commit", "stop", "forget", "CPU × 2 instances", "CPU", "PID 1's CPU", "D-Bus calls × 2 instances", "D-Bus calls")
	var nodes, owns, cpus, pid1s, steers, asks []float64
	members := map[string]int{}
	for _, n := range []int{2, 8, 32, 128} {
		m.Write("/etc/app-rollout/shop.env", fmt.Sprintf("SYSTEMD_CLUSTER_MODE=1\nSYSTEMD_CLUSTER_NODES=%d\nSYSTEMD_CLUSTER_READY_SEC=600\nSYSTEMD_CLUSTER_WATCH_SEC=0\nSYSTEMD_EXEC_START=/opt/apps/server\nPORT=8080\n", n), 0o644)
		m.Must("systemctl", "start", "app-rollout@shop.service")
		steps := map[string][]float64{}
		var own, whole, cpu, pid1 []float64
		for range rollouts {
			before := parsed(p, m.Sh("cut -d' ' -f1 /proc/1/schedstat"))
			took := parsed(p, m.Sh("began=$(date +%s%N); systemctl start app-rollout@shop.service; echo $(($(date +%s%N) - began))")) / 1e6
			pid1 = append(pid1, (parsed(p, m.Sh("cut -d' ' -f1 /proc/1/schedstat"))-before)/1e6)
			whole = append(whole, took)
			for _, s := range b.generation("shop").Rollout.Steps {
				steps[s.Name] = append(steps[s.Name], s.Milliseconds)
				if waits[s.Name] {
					took -= s.Milliseconds
				}
			}
			own = append(own, took)
		}
		m.Write(usage, usageText, 0o644)
		m.Must("systemctl", "daemon-reload")
		for range rollouts {
			m.Must("systemctl", "start", "app-rollout@shop.service")
			cpu = append(cpu, parsed(p, m.Sh("journalctl --sync; journalctl -b -u app-rollout@shop.service -o cat | sed -n 's/^used //p' | tail -1"))/1000)
		}
		m.Sh("rm " + usage + "; systemctl daemon-reload")
		members = calls(p, m)
		ask := 0
		for _, n := range members {
			ask += n
		}
		nodes, owns, cpus, pid1s = append(nodes, float64(n)), append(owns, Median(own)), append(cpus, Median(cpu)), append(pid1s, Median(pid1))
		steers, asks = append(steers, Median(steps["hold"])+Median(steps["shift"])), append(asks, float64(ask))
		last := len(nodes) - 1
		step := func(name string) string { return millis(Median(steps[name])) }
		table.Row(strconv.Itoa(n), ratio(owns[last]/owns[0]), millis(owns[last]), millis(Median(whole)), step("start"), step("ready"), millis(steers[last]), step("commit"), step("stop"), step("forget"),
			ratio(cpus[last]/cpus[0]), millis(cpus[last]), millis(pid1s[last]), ratio(asks[last]/asks[0]), strconv.Itoa(ask))
		t.Logf("growth: %d instances: own %v of %v, CPU %v, PID 1's %v, %d calls %v; %v", n, own, whole, cpu, pid1, ask, members, steps)
	}
	p.printf("%s\nGrowth, as the best-fitting power of the number of instances (1 is linear):\n\n", table)
	for _, l := range []struct {
		what string
		cost []float64
	}{{"own share", owns}, {"steering", steers}, {"CPU", cpus}, {"PID 1's CPU", pid1s}, {"D-Bus calls", asks}} {
		last := len(nodes) - 1
		p.printf("- %s: %.2f; from %.0f to %.0f only %.2f\n", l.what, Exponent(nodes, l.cost), nodes[last-1], nodes[last], Exponent(nodes[last-1:], l.cost[last-1:]))
	}
	p.printf("\nThe calls of the largest rollout: ")
	for i, name := range slices.SortedFunc(maps.Keys(members), func(a, b string) int { return members[b] - members[a] }) {
		if i > 0 {
			p.printf(", ")
		}
		p.printf("%d %s", members[name], name)
	}
	p.printf(". So many instances share %s CPUs with PID 1, and twice as many while one generation takes over from the other.\n", m.Must("nproc"))
	p.picture("growth.svg", "own share, steering and CPU over the number of instances", LogLog("A rollout: time over the number of instances", "instances", "ms",
		[]Series{{"own share", nodes, owns}, {"steering", nodes, steers}, {"CPU", nodes, cpus}, {"PID 1's CPU", nodes, pid1s}}))
}

// calls makes a rollout under strace and counts the D-Bus calls in it, by
// method: messages that are little-endian method calls (D-Bus specification,
// "Message Format"), each of which the library writes at once.
func calls(p *page, m *machine.Machine) map[string]int {
	text := m.Sh(`set -- strace --follow-forks --quiet=all --signal=none --trace=write,sendmsg --string-limit=600
		"$@" --output=/tmp/calls /usr/lib/app-rollout/rollout-helper swap shop >/dev/null
		grep -a '"l\\1' /tmp/calls`)
	members := map[string]int{}
	for line := range strings.Lines(text) {
		name := "others"
		if m := member.FindStringSubmatch(line); m != nil {
			name = m[1]
		} else {
			p.t.Logf("no method in %s", line)
		}
		members[name]++
	}
	return members
}

// member is the header field of a method's name, as strace writes it.
var member = regexp.MustCompile(`\\3\\1s\\0(?:\\[0-7]{1,3}|\\?.)(?:\\0){3}([A-Za-z]+)\\0`)

// parsed is the number that a command has printed.
func parsed(p *page, text string) float64 {
	p.t.Helper()
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		p.t.Fatalf("no number: %v", err)
	}
	return v
}
