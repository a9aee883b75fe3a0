// Command demo shows app-rollout at work. It boots a throw-away Debian 12 with its
// own systemd, installs the package that `make deb` built, deploys an app again and
// again while clients ask it, and prints what happens.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"app-rollout/test/load"
	"app-rollout/test/machine"
)

const envPath = "/etc/app-rollout/shop.env"

// env is the app's .env; the lines are those that a deploy changes.
func env(lines ...string) string {
	return strings.Join(append([]string{
		"SYSTEMD_CLUSTER_MODE=1",
		"SYSTEMD_CLUSTER_NODES=2",
		"SYSTEMD_CLUSTER_HEALTH_PATH=/health",
		"SYSTEMD_EXEC_START=" + machine.AppsDir + "/server",
		"PORT=8080",
		"DELAY=5ms",
		"STOP=die",
	}, lines...), "\n") + "\n"
}

func main() {
	d := newDemo()
	os.Exit(d.main(func() {
		m := d.install()
		d.first(m)
		lost := 0
		for _, generation := range []string{"g2", "g3", "g4"} {
			lost += d.rollout(m, generation)
		}
		lost += d.bad(m)
		d.end(m, lost)
	}))
}

func (d *demo) install() *machine.Machine {
	d.heading("A throw-away Debian 12 with its own systemd")
	apps := machine.Apps(d)
	m := machine.Boot(d, machine.Options{Layers: []string{apps}})
	d.say("booted in %.1f s: %s", m.BootTook.Seconds(), firstLine(m.Must("systemctl", "--version")))
	deb := machine.Deb(d)
	m.Install(deb)
	d.say("installed %s; nothing was started", filepath.Base(deb))
	return m
}

func (d *demo) first(m *machine.Machine) {
	d.heading("One file is an app: " + envPath)
	text := env("GENERATION=g1")
	m.Write(envPath, text, 0o644)
	d.block(text)
	d.say("The server asks for no SO_REUSEPORT: a second copy would fail to bind the port.")
	d.say("At SIGTERM it dies at once, and takes what it was answering with it.")
	d.run(m, 0)
	d.say("%s serve on one port, 8080", instances(m))
}

// rollout deploys a generation under load and tells what the clients saw.
func (d *demo) rollout(m *machine.Machine, generation string) (lost int) {
	d.heading(fmt.Sprintf("A rollout under load: GENERATION=%s", generation))
	return d.deploy(m, env("GENERATION="+generation), 0)
}

// bad deploys a generation that is broken.
func (d *demo) bad(m *machine.Machine) (lost int) {
	d.heading("A bad deploy under load: g5 answers everything with 500")
	lost = d.deploy(m, env("GENERATION=g5", "STATUS=500", "SYSTEMD_CLUSTER_READY_SEC=3"), 1)
	d.say("%s still serve, as before", instances(m))
	return lost
}

const clients = 16

func (d *demo) deploy(m *machine.Machine, env string, status int) (lost int) {
	client := m.Load(load.Options{Addr: "127.0.0.1:8080", Workers: clients, Timeline: true})
	more := func() {
		from := client.Answered()
		m.Wait("answers", 30*time.Second, func() bool { return client.Answered() >= from+500 })
	}
	more()
	m.Write(envPath, env, 0o644)
	start := d.run(m, status)
	more()
	report := client.Stop()
	d.say("%d clients, every request on a fresh connection:", clients)
	for _, line := range seen(report, start) {
		d.say("  %s", line)
	}
	d.say("%s; slowest answer %.0f ms, 99 of 100 within %.0f ms", d.lost(report),
		report.Max.Seconds()*1000, report.P99.Seconds()*1000)
	return report.Lost()
}

// run runs `app-rollout run shop` and prints what it says, each line with the time
// since the start. It returns the time of the start.
func (d *demo) run(m *machine.Machine, status int) (start time.Time) {
	d.say("$ app-rollout run shop")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd, done, err := m.Command(ctx, "app-rollout", "run", "shop")
	if err != nil {
		d.Fatalf("%v", err)
	}
	defer done()
	out, in, err := os.Pipe()
	if err != nil {
		d.Fatalf("%v", err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = in, in
	start = time.Now()
	err = cmd.Start()
	in.Close()
	if err != nil {
		d.Fatalf("%v", err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		d.say("  %4.1f s  %s", time.Since(start).Seconds(), strings.TrimPrefix(lines.Text(), "shop: "))
	}
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != status {
		d.Fatalf("app-rollout run: exit status %d", code)
	}
	return start
}

func (d *demo) end(m *machine.Machine, lost int) {
	d.heading("In the end")
	d.block(m.Must("app-rollout", "history", "shop"))
	d.say("processes of app-rollout that stay: %s", m.Sh("pgrep -c rollout-helper || true"))
	if lost > 0 {
		d.Fatalf("%d requests were lost", lost)
	}
	d.say("three rollouts and a failed one, and not one request lost")
}

// seen is a line for each generation that answered: how often, and when its first
// and last answers were asked for, as times since zero.
func seen(r *load.Report, zero time.Time) []string {
	type span struct {
		name        string
		instances   []string
		answers     int
		first, last int64
	}
	var spans []*span
	for _, a := range r.Answers {
		words := strings.Fields(a.Label + " - -")
		i := slices.IndexFunc(spans, func(s *span) bool { return s.name == words[0] })
		if i < 0 {
			i = len(spans)
			spans = append(spans, &span{name: words[0], first: a.Start, last: a.Start})
		}
		s := spans[i]
		s.answers++
		s.first, s.last = min(s.first, a.Start), max(s.last, a.Start)
		if name := "shop@" + words[1]; !slices.Contains(s.instances, name) {
			s.instances = append(s.instances, name)
		}
	}
	slices.SortFunc(spans, func(a, b *span) int { return int(a.first/1e6 - b.first/1e6) })
	var lines []string
	for _, s := range spans {
		slices.Sort(s.instances)
		at := func(t int64) float64 { return float64(t-zero.UnixNano()) / 1e9 }
		lines = append(lines, fmt.Sprintf("%s  %6d answers from %s, asked for from %.2f s to %.2f s",
			s.name, s.answers, strings.Join(s.instances, " "), at(s.first), at(s.last)))
	}
	return lines
}

func instances(m *machine.Machine) string {
	return strings.Join(strings.Fields(m.Sh(
		"systemctl list-units --plain --no-legend --state=active 'shop@*.service' | sed 's/[.]service .*//'")), " and ")
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
