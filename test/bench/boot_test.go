//go:build bench

package bench

import (
	"fmt"
	"strconv"
	"strings"

	"app-rollout/test/machine"
)

// boot measures whole boots with the files of many apps. It starts no app: multi-user.target
// wants the instances of those that have been ready, and the boot service, which rolls out
// the new ones. So the machine boots to another target. One such target has nothing to do
// with multi-user.target. The other is ordered after it but does not want it, so that
// systemd reads all units that it wants and starts none. Of new apps there are none.
func (p *page) boot() {
	const apps, boots = 1000, 5
	t := p.t
	m := machine.Boot(t, machine.Options{Release: "trixie", Install: true, Layers: []string{toolLayer(t), machine.Apps(t)}, Files: map[string]string{
		"/etc/systemd/system/generator.target": "[Unit]\nRequires=basic.target\nAfter=basic.target\n",
		"/etc/systemd/system/units.target":     "[Unit]\nRequires=basic.target\nAfter=basic.target multi-user.target\n",
	}})
	states := []string{"none", "recorded", "new"}
	// The directories of each state lie beside the real ones until it is that
	// state's turn.
	const swap = `for d in /etc/app-rollout /var/lib/app-rollout; do mv $d $d.%s; mv $d.%s $d; done`
	m.Sh(fmt.Sprintf(`for d in /etc/app-rollout /var/lib/app-rollout; do
			mv $d $d.none
			for state in recorded new; do cp -a $d.none $d.$state; done
		done
		for state in recorded new; do
			for d in /etc/app-rollout /var/lib/app-rollout; do mv $d.$state $d; done
			/opt/bench/tool apps %d $state
			for d in /etc/app-rollout /var/lib/app-rollout; do mv $d $d.$state; done
		done
		for d in /etc/app-rollout /var/lib/app-rollout; do mv $d.none $d; done`, apps))

	p.heading("A boot with many apps")
	p.printf("Debian 13 in a container is booted %d times each, in turn: without apps, and with the files of %d apps of two instances each. No app is started, because that would measure the apps: the machine boots to a target without them. Either nothing refers to their units, so that only the generator and systemd's look at the directory are added; or the target is ordered after `multi-user.target`, so that systemd also reads all units which that wants: the instances of the recorded apps. Nothing wants those of the new apps, which `app-rollout-boot.service` rolls out later. The figures for userspace and the generators are medians of what `systemd-analyze` says.\n\n", boots, apps)
	table := NewTable("apps", "wanted units read", "userspace × none", "userspace", "generators × none", "generators' phase", "units that systemd has")
	current := "none"
	for _, target := range []string{"generator", "units"} {
		m.Must("systemctl", "set-default", target+".target")
		userspace, generators, units := map[string][]float64{}, map[string][]float64{}, map[string]string{}
		for range boots {
			for _, state := range states {
				if state != current {
					m.Sh(fmt.Sprintf(swap, current, state))
					current = state
				}
				m.Reboot()
				u, g := bootTimes(p, m)
				userspace[state], generators[state] = append(userspace[state], u), append(generators[state], g)
				units[state] = m.Sh("systemctl list-units --all --plain --no-legend | wc -l")
			}
		}
		for _, state := range states {
			name := fmt.Sprintf("%d %s", apps, state)
			if state == "none" {
				name = state
			}
			u, g := Median(userspace[state]), Median(generators[state])
			table.Row(name, map[bool]string{true: "yes", false: "no"}[target == "units"], ratio(u/Median(userspace["none"])), millis(u), ratio(g/Median(generators["none"])), millis(g), units[state])
			t.Logf("boot to %s, %s: userspace %v, generators %v", target, state, userspace[state], generators[state])
		}
	}
	p.printf("%s", table)
}

// bootTimes are how long userspace took to come up, and the generators in it,
// in milliseconds.
func bootTimes(p *page, m *machine.Machine) (userspace, generators float64) {
	times := map[string]float64{}
	for line := range strings.Lines(m.Must("systemctl", "show", "--property=UserspaceTimestampMonotonic,FinishTimestampMonotonic,GeneratorsStartTimestampMonotonic,GeneratorsFinishTimestampMonotonic")) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		micros, err := strconv.ParseFloat(value, 64)
		if err != nil {
			p.t.Fatalf("%s: %v", line, err)
		}
		times[strings.TrimSuffix(name, "TimestampMonotonic")] = micros / 1000
	}
	return times["Finish"] - times["Userspace"], times["GeneratorsFinish"] - times["GeneratorsStart"]
}
