//go:build story

package test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"app-rollout/test/load"
	"app-rollout/test/machine"
)

// first is the commit that was released as 0.1.0.
const first = "19ade66ef0219a67cd3c12a560930da8951519ba"

// TestUpgrade goes from 0.1.0 to this version in the middle of two rollouts, back to
// 0.1.0 after a reboot, and to this version again between rollouts, with two apps under
// load. Each version replaces what the other one runs, and rolls back to what the other
// one froze. No request is lost, and the purge at the end leaves nothing.
func TestUpgrade(t *testing.T) {
	onEachRelease(t, func(t *testing.T, on machine.Options) {
		older, newer := machine.DebOf(t, first), machine.Deb(t)
		on.Layers, on.Files = []string{machine.Apps(t)}, gated()
		shop := &app{Machine: machine.Boot(t, on), t: t, name: "shop"}
		u := &upgrade{Machine: shop.Machine, t: t, apps: []*app{shop, shop.other(t, "blog")}, serves: map[string]string{}}

		u.Install(older)
		u.write()
		rollOut(shop)
		clients := u.clients()
		u.duringRollouts(func() { u.Install(newer) })
		u.shared("older")
		u.lines = []string{"SYSTEMD_CLUSTER_BALANCE=leastconn"} // 0.1.0 does not know it
		u.rolls("upgraded during rollouts")
		u.shared("current")
		u.answered(clients)

		u.Reboot()
		shop.booted()
		for _, a := range u.apps {
			a.want(a.name + "@1 " + a.name + "@2")
		}
		u.shared("current")
		clients = u.clients()
		u.Sh(balances + "; sed -i /BALANCE/d /etc/app-rollout/*.env")
		u.touchesNothing(older)
		u.Sh("! " + balances)
		u.lines = nil
		u.rolls("downgraded")
		u.touchesNothing(newer)
		u.shared("older")
		u.rolls("upgraded between rollouts")
		u.shared("current")
		u.answered(clients)

		u.Sh("rm -r /etc/app-rollout/*.env /etc/systemd/system/app-rollout*.service.d /var/tmp/*.deb")
		u.Must("dpkg", "--purge", "app-rollout")
		if left := leftovers(u.Machine); left != "" {
			t.Errorf("the purge has left:\n%s", left)
		}
	})
}

// balances is a command that fails unless an app is balanced.
const balances = "test -e /run/app-rollout-bpf/balance/*/count"

// upgrade is a machine with two apps, on which the version of the package changes.
type upgrade struct {
	*machine.Machine
	t       *testing.T
	apps    []*app
	version int               // of the .envs: the answers begin with it
	lines   []string          // in the .envs
	serves  map[string]string // the version that each app serves
}

// address is where an app listens.
func address(a *app) string {
	if a.name == "blog" {
		return "127.0.0.1:8081"
	}
	return port
}

// write writes the next version of the .envs.
func (u *upgrade) write() (version string) {
	u.t.Helper()
	u.version++
	version = fmt.Sprintf("v%d", u.version)
	for _, a := range u.apps {
		_, number, _ := strings.Cut(address(a), ":")
		a.write(append(u.lines, "PORT="+number, "GENERATION="+version)...)
	}
	return version
}

// clients starts clients of each app.
func (u *upgrade) clients() (clients []*machine.Load) {
	u.t.Helper()
	for _, a := range u.apps {
		c := u.Load(load.Options{Addr: address(a), Workers: 4, Pause: 5 * time.Millisecond})
		a.more(c, 20)
		clients = append(clients, c)
	}
	return clients
}

// answered ends the clients, who must have lost nothing.
func (u *upgrade) answered(clients []*machine.Load) {
	u.t.Helper()
	for _, c := range clients {
		nothingLost(u.t, c.Stop())
	}
}

// duringRollouts starts a rollout of each app, does something while one of them watches
// its new instances and the other one is under way, and checks that both end well.
func (u *upgrade) duringRollouts(do func()) {
	u.t.Helper()
	version := u.write()
	gate := newGate(u.t, u.Machine)
	gate.close(atWatch)
	var services []string
	for _, a := range u.apps {
		services = append(services, a.service())
	}
	u.Must("systemctl", slices.Concat([]string{"start", "--no-block"}, services)...)
	if gate.next(2*time.Minute) == "" {
		u.t.Fatalf("no rollout got to its step %s", atWatch)
	}
	do()
	states := func() string {
		return u.Must("systemctl", slices.Concat([]string{"show", "--value", "--property=ActiveState"}, services)...)
	}
	if got := states(); got != "activating\n\nactivating" {
		u.t.Errorf("the rollouts had ended before: %s", got)
	}
	gate.end()
	u.Wait("the end of the rollouts", 2*time.Minute, func() bool { return !strings.Contains(states(), "activating") })
	for _, a := range u.apps {
		if result := u.Property(a.service(), "Result"); result != "success" {
			u.t.Errorf("the result of %s is %s", a.service(), result)
		}
		u.servesNow(a, version)
	}
}

// touchesNothing installs a package between rollouts. That touches no instance, and
// makes no app a changed one.
func (u *upgrade) touchesNothing(deb string) {
	u.t.Helper()
	state := func() string {
		// systemctl shows the units of a pattern in no fixed order.
		return u.Sh(`for unit in $(systemctl list-units --plain --no-legend 'shop@*' 'blog@*' | cut -d' ' -f1 | sort); do
	systemctl show --property=Id,MainPID,NRestarts,ExecMainStartTimestampMonotonic "$unit"
done
app-rollout status --json | grep -w state`)
	}
	before := state()
	u.Install(deb)
	if after := state(); after != before {
		u.t.Errorf("the installation of %s touched the apps:\n%s\n%s", deb, before, after)
	}
}

// rolls rolls out the next version, and then rolls blog back to what it served before.
// To name both apps ends the hold of the last time. All of it is steered.
func (u *upgrade) rolls(when string) {
	u.t.Helper()
	before, version := u.serves["blog"], u.write()
	u.steered(when, "run", "shop", "blog")
	for _, a := range u.apps {
		u.servesNow(a, version)
	}
	u.steered(when, "rollback", "blog")
	u.servesNow(u.apps[1], before)
	if said := u.Must("app-rollout", "check"); strings.Contains(said, "port-sharing") {
		u.t.Errorf("%s: %s", when, said)
	}
}

// steered gives a command of app-rollout, whose rollouts must be steered.
func (u *upgrade) steered(when, command string, apps ...string) {
	u.t.Helper()
	r := u.Run(context.Background(), "app-rollout", slices.Concat([]string{command}, apps)...)
	if r.Code != 0 || strings.Count(r.Out, "traffic steered") != len(apps) {
		u.t.Errorf("%s: app-rollout %s: status %d\n%s%s", when, command, r.Code, r.Out, r.Err)
	}
}

// servesNow checks that two instances of this version answer, and notes the version.
func (u *upgrade) servesNow(a *app, version string) {
	u.t.Helper()
	client := u.Load(load.Options{Addr: address(a), Workers: 2})
	a.more(client, 40)
	report := client.Stop()
	nothingLost(u.t, report)
	onlyFrom(u.t, report, version)
	if len(report.Labels) != 2 {
		u.t.Errorf("%s is answered by %v, want two instances", a.name, report.Labels)
	}
	u.serves[a.name] = version
}

// shared checks that the programs that share the ports are in force, and of which build.
func (u *upgrade) shared(build string) {
	u.t.Helper()
	if said := u.Must("app-rollout", "status", "--json"); !strings.Contains(said, `"port_sharing_build": "`+build+`"`) {
		u.t.Errorf("the programs that share the ports are not of the %s build:\n%.300s", build, said)
	}
}
