//go:build bench

package bench

import (
	"fmt"
	"strconv"
	"strings"

	"app-rollout/test/machine"
)

// growth measures rollouts of more and more instances of a program that starts
// and stops at once, so that what is left is ours, and systemd's.
func (p *page) growth() {
	t := p.t
	m := machine.Boot(t, machine.Options{Install: true, Layers: []string{machine.Apps(t)}, Files: map[string]string{
		// What a unit has used is known only as long as its cgroup is there.
		"/etc/systemd/system/app-rollout@.service.d/usage.conf": `[Service]
ExecStopPost=sh -c 'sed -n "s/^usage_usec/used/p" /sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup)/cpu.stat'
`}})
	b := &bed{Machine: m, t: t}
	p.heading("The rollout as it grows")
	p.printf("All instances replaced by as many new ones, of a small Go server, without load. \"Own\" are the steps in which the helper waits for no instance (all but start, ready, watch, drain, stop). CPU is the service's, `recover` at its end included. The medians of three.\n\n")
	table := NewTable("instances", "own × 2 instances", "own", "whole", "start", "ready", "stop", "hold + shift", "commit", "forget", "CPU × 2 instances", "CPU")
	var nodes, owns, cpus []float64
	for _, n := range []int{2, 8, 32} {
		m.Write("/etc/app-rollout/shop.env", fmt.Sprintf("SYSTEMD_CLUSTER_MODE=1\nSYSTEMD_CLUSTER_NODES=%d\nSYSTEMD_CLUSTER_WATCH_SEC=0\nSYSTEMD_EXEC_START=/opt/apps/server\nPORT=8080\n", n), 0o644)
		m.Must("systemctl", "start", "app-rollout@shop.service")
		steps := map[string][]float64{}
		var own, whole, cpu []float64
		for range 3 {
			m.Must("systemctl", "start", "app-rollout@shop.service")
			r := b.generation("shop").Rollout
			sum := 0.0
			for _, s := range r.Steps {
				steps[s.Name] = append(steps[s.Name], s.Milliseconds)
				if !waits[s.Name] {
					sum += s.Milliseconds
				}
			}
			own, whole = append(own, sum), append(whole, r.Seconds*1000)
			micros, err := strconv.ParseFloat(m.Sh("journalctl --sync; journalctl -b -u app-rollout@shop.service -o cat | sed -n 's/^used //p' | tail -1"), 64)
			if err != nil {
				t.Fatalf("CPU time: %v", err)
			}
			cpu = append(cpu, micros/1000)
		}
		nodes, owns, cpus = append(nodes, float64(n)), append(owns, Median(own)), append(cpus, Median(cpu))
		step := func(name string) string { return millis(Median(steps[name])) }
		table.Row(fmt.Sprint(n), ratio(Median(own)/owns[0]), millis(Median(own)), millis(Median(whole)), step("start"), step("ready"), step("stop"),
			millis(Median(steps["hold"])+Median(steps["shift"])), step("commit"), step("forget"), ratio(Median(cpu)/cpus[0]), millis(Median(cpu)))
		t.Logf("growth: %d instances: own %v of %v, CPU %v; %s", n, Median(own), Median(whole), Median(cpu), strings.Join(strings.Fields(fmt.Sprint(steps)), " "))
	}
	p.printf("%s\nOwn time grows with the %.2f power of the number of instances, CPU with the %.2f power.\n", table, Exponent(nodes, owns), Exponent(nodes, cpus))
	p.picture("growth.svg", "own time and CPU over the number of instances", LogLog("A rollout: time over the number of instances", "instances", "ms",
		[]Series{{"own time", nodes, owns}, {"CPU", nodes, cpus}}))
}
