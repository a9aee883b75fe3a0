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

	"github.com/cilium/ebpf"
)

// kept measures what becomes of connections that clients keep, when instances of a
// small Go server that dies of SIGTERM are replaced.
func (p *page) kept() {
	b := &bed{t: p.t, Machine: machine.Boot(p.t, machine.Options{Install: true, Layers: []string{machine.Apps(p.t)}})}
	p.heading("Connections that are kept")
	p.printf("Two instances of a small Go server that dies of SIGTERM are replaced, without a health path, under clients that keep their connections. The drain time is %d s.\n", keptDrain)
	p.rests(b)
	p.crowd(b)
	p.telling(b)
	p.printf("\nBetween deploys, %d of the programs that tell clients are loaded.\n", b.tellers())
}

// keptDrain is the drain time in seconds.
const keptDrain = 10

// replace rolls out the Go server, with these lines in its .env, and returns the receipt.
func (b *bed) replace(generation string, lines ...string) *store.Receipt {
	b.t.Helper()
	b.goEnv(generation, lines...)
	b.Must("systemctl", "start", "app-rollout@shop.service")
	return b.generation("shop").Rollout
}

func (b *bed) goEnv(generation string, lines ...string) {
	b.t.Helper()
	all := append([]string{
		"SYSTEMD_CLUSTER_MODE=1", "SYSTEMD_CLUSTER_NODES=2", "SYSTEMD_CLUSTER_WATCH_SEC=0",
		"SYSTEMD_EXEC_START=/opt/apps/server", "PORT=8080", "STOP=die",
		fmt.Sprintf("SYSTEMD_CLUSTER_DRAIN_SEC=%d", keptDrain), "GENERATION=" + generation,
	}, lines...)
	b.Write("/etc/app-rollout/shop.env", strings.Join(all, "\n")+"\n", 0o644)
}

// stepOf is how long a step took, in milliseconds.
func stepOf(r *store.Receipt, name string) float64 {
	i := slices.IndexFunc(r.Steps, func(s store.Step) bool { return s.Name == name })
	if i < 0 {
		return 0
	}
	return r.Steps[i].Milliseconds
}

// established waits until the app has so many connections.
func (b *bed) established(n int) {
	b.t.Helper()
	b.Wait(fmt.Sprintf("%d connections", n), 2*time.Minute, func() bool {
		have, err := strconv.Atoi(b.Sh("ss -Htn state established sport = :8080 | wc -l"))
		return err == nil && have >= n
	})
}

// crowdSize is how many connections a crowd keeps.
const crowdSize = 10_000

// crowd measures one rollout under very many connections, and one under none.
func (p *page) crowd(b *bed) {
	const rest = 100 * time.Millisecond
	b.Write(usage, usageText, 0o644)
	b.Must("systemctl", "daemon-reload")
	alone, aloneCPU := b.replace("alone"), b.helperCPU()
	c := b.Load(load.Options{Addr: address, Workers: crowdSize, Keep: true, Post: 100, Pause: rest, Timeout: time.Minute})
	b.established(crowdSize)
	began := time.Now()
	r := b.replace("crowd")
	cpu := b.helperCPU()
	// All are to ask the new instances too.
	for before := c.Answered(); c.Answered() < before+2*crowdSize; time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > 2*time.Minute {
			p.t.Fatalf("only %d answers", c.Answered())
		}
	}
	report := c.Stop()
	b.Sh("rm " + usage + "; systemctl daemon-reload")
	p.t.Logf("crowd: %.3f s, drain %.0f ms; %s; the run's CPU %v, without connections %v; %v; %v",
		r.Seconds, stepOf(r, "drain"), r.Connections(), cpu, aloneCPU, report, report.Failures[:min(3, len(report.Failures))])
	p.printf("\n### Ten thousand connections\n\n%d clients POST, each on a connection of its own, and rest for %s between two requests, as far as two CPUs let them. In one deploy:\n\n", crowdSize, ms(rest))
	table := NewTable("connections", "told to close", "requests lost", "the rollout takes", "its drain", "its CPU")
	table.Row(strconv.Itoa(crowdSize), strconv.Itoa(r.ToldToClose), strconv.Itoa(report.Lost()), millis(1000*r.Seconds), millis(stepOf(r, "drain")), ms(cpu))
	table.Row("none", "–", "–", millis(1000*alone.Seconds), millis(stepOf(alone, "drain")), ms(aloneCPU))
	p.printf("%s", table)
}

// helperCPU is the CPU time that the service of the last run has used; see usage.
func (b *bed) helperCPU() time.Duration {
	b.t.Helper()
	text := b.Sh("journalctl --sync; journalctl -b -u app-rollout@shop.service -o cat | sed -n 's/^used //p' | tail -1")
	us, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		b.t.Fatalf("what the run has used: %v", err)
	}
	return time.Duration(us) * time.Microsecond
}

// tellers counts the programs that tell clients, as the kernel has them.
func (b *bed) tellers() (n int) {
	b.t.Helper()
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if err != nil {
			return n // there are no more
		}
		id = next
		program, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue // it is gone
		}
		if info, err := program.Info(); err == nil && (info.Name == "ar_tell" || info.Name == "ar_hear") {
			n++
		}
		program.Close()
	}
}
