//go:build bench

package bench

import (
	"fmt"
	"strconv"
	"strings"

	"app-rollout/test/machine"
)

// most is the number of apps that the generator takes.
const most = 4096

const (
	bareProgram  = "/opt/bench/tool nothing"
	ourGenerator = "/usr/lib/systemd/system-generators/app-rollout-generator"
	quadlet      = "/usr/lib/systemd/system-generators/podman-system-generator"
)

// timed is how one command did: the medians.
type timed struct {
	wall, cpu float64
	status    int
	files     int // that it has written
}

// timeGenerators runs the commands in turn, so many times each, for n apps in a
// state: "recorded" or "new".
func (p *page) timeGenerators(m *machine.Machine, n, times int, state string, commands ...string) []timed {
	out := m.Sh(fmt.Sprintf(`unshare --mount sh -euc '
			mount -t tmpfs -o mode=755 tmpfs /etc/app-rollout
			mount -t tmpfs -o mode=700 tmpfs /var/lib/app-rollout
			mkdir -p /etc/containers/systemd
			mount -t tmpfs -o mode=755 tmpfs /etc/containers/systemd
			/opt/bench/tool apps %d %s
			/opt/bench/tool time %d %s'`, n, state, times, strings.Join(commands, " -- ")))
	all := make([]timed, len(commands))
	walls, cpus := make([][]float64, len(commands)), make([][]float64, len(commands))
	for line := range strings.Lines(out) {
		var i, status, files int
		var w, c float64
		if _, err := fmt.Sscan(line, &i, &w, &c, &status, &files); err != nil {
			p.t.Fatalf("%q: %v", line, err)
		}
		walls[i], cpus[i] = append(walls[i], w), append(cpus[i], c)
		all[i].status, all[i].files = status, files
	}
	for i := range all {
		all[i].wall, all[i].cpu = Median(walls[i]), Median(cpus[i])
	}
	return all
}

// generator measures the generators that a boot waits for, ours and Quadlet's. It does
// not boot a machine with so many apps. It runs the generators by hand, in a mount
// namespace with other directories for them to read, so that the machine's own
// systemd never sees these apps.
func (p *page) generator() {
	t := p.t
	m := machine.Boot(t, machine.Options{Release: "trixie", Packages: []string{"podman"}, Install: true, Layers: []string{toolLayer(t), machine.Apps(t)}})
	version := strings.TrimPrefix(m.Must("podman", "--version"), "podman version ")

	p.heading("The generator, for which the boot waits")
	p.printf("The median wall time of the generator, run by hand on a tmpfs, as a ratio to a static Go program that does nothing. Beside it stands Quadlet, the generator of podman %s, with as many `.container` files. All run in turn, on Debian 13. Each of our apps has two instances, each of Quadlet's one container. \"Recorded\" apps have been rolled out before, and their frozen units are copied. \"New\" apps are parsed from their `.env`.\n\n", version)
	table := NewTable("apps", "recorded: × bare", "time", "per app", "CPU", "new: × bare", "time", "per app", "CPU", "Quadlet: × bare", "time", "per app", "CPU", "recorded × Quadlet", "new × Quadlet")
	names := []string{"recorded", "new", "Quadlet"}
	series := map[string]*Series{}
	for _, name := range names {
		series[name] = &Series{Name: name}
	}
	for _, n := range []int{1, 10, 100, 1000, most, 10000} {
		times := max(3, min(20, 2000/n))
		recorded := p.timeGenerators(m, n, times, "recorded", bareProgram, ourGenerator, quadlet)
		fresh := p.timeGenerators(m, n, times, "new", bareProgram, ourGenerator)
		nothing := (recorded[0].wall + fresh[0].wall) / 2
		cells := []string{strconv.Itoa(n)}
		for i, r := range []timed{recorded[1], fresh[1], recorded[2]} {
			did, star := n, ""
			if r.status != 0 {
				star = "*"
			}
			if i < 2 {
				did = min(n, most)
			}
			if r.files < did && star == "" {
				t.Fatalf("%s of %d apps: wrote %d files", names[i], n, r.files)
			}
			cells = append(cells, ratio(r.wall/nothing)+star, millis(r.wall), millis(r.wall/float64(did)), millis(r.cpu))
			if star == "" {
				s := series[names[i]]
				s.X, s.Y = append(s.X, float64(n)), append(s.Y, r.wall)
			}
		}
		cells = append(cells, ratio(recorded[1].wall/recorded[2].wall), ratio(fresh[1].wall/recorded[2].wall))
		table.Row(cells...)
		for i, r := range []timed{recorded[1], fresh[1]} {
			if clearly(recorded[2].wall, r.wall) {
				p.ahead(fmt.Sprintf("A generator's time for %d apps, %s", n, names[i]), millis(r.wall), "Quadlet", millis(recorded[2].wall))
			}
		}
		t.Logf("generator: %v", cells)
	}
	p.printf("%s\n\\* The generator gave up: there are more than the %d apps that it takes, or its time for new ones was over. It says so and exits with status 1, and what it has written is valid.\n\n", table, most)
	for _, name := range names {
		s := series[name]
		_, each := Line(s.X, s.Y)
		p.printf("- %s: grows with the power %.2f of the number of apps, from %.0f on; %s for each app more.\n", name, Exponent(s.X[2:], s.Y[2:]), s.X[2], millis(each))
	}
	p.picture("generator.svg", "the generators' time over the number of apps",
		LogLog("The generator, and Quadlet: time over the number of apps", "apps", "ms", []Series{*series["recorded"], *series["new"], *series["Quadlet"]}))
}
