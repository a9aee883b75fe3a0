//go:build story

package test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"app-rollout/test/load"
	"app-rollout/test/machine"
	"app-rollout/units/store"
)

// An app is one .env on a machine, and what a story does with it. Its methods fail
// the story if something goes wrong.
type app struct {
	*machine.Machine
	t    *testing.T
	name string
}

// newShop boots a machine with the package and the sample apps, and returns its
// app "shop", which is not deployed yet. At most one set of options is given.
func newShop(t *testing.T, options ...machine.Options) *app {
	t.Helper()
	o := machine.Options{}
	if len(options) > 0 {
		o = options[0]
	}
	o.Install, o.Layers = true, append([]string{machine.Apps(t)}, o.Layers...)
	return &app{Machine: machine.Boot(t, o), t: t, name: "shop"}
}

// onEachRelease runs a story on every release of Debian, in parallel.
func onEachRelease(t *testing.T, story func(t *testing.T, on machine.Options)) {
	for _, release := range []string{"bookworm", "trixie"} {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			story(t, machine.Options{Release: release})
		})
	}
}

// other is another app on the same machine, in the story of t.
func (a *app) other(t *testing.T, name string) *app {
	return &app{Machine: a.Machine, t: t, name: name}
}

// env is the text of an .env: two instances of the Go server, which does not set
// SO_REUSEPORT itself. Later lines win.
func env(lines ...string) string {
	return strings.Join(slices.Concat([]string{
		"SYSTEMD_CLUSTER_MODE=1",
		"SYSTEMD_CLUSTER_NODES=2",
		"SYSTEMD_CLUSTER_WATCH_SEC=1",
		"SYSTEMD_EXEC_START=/opt/apps/server",
		"PORT=8080",
	}, lines), "\n") + "\n"
}

// path is the path of the app's .env.
func (a *app) path() string { return "/etc/app-rollout/" + a.name + ".env" }

// service is the service that rolls this app out.
func (a *app) service() string { return "app-rollout@" + a.name + ".service" }

// write makes the app's .env.
func (a *app) write(lines ...string) {
	a.t.Helper()
	a.Write(a.path(), env(lines...), 0o644)
}

// deploy writes the .env and rolls it out, and returns what the run said.
func (a *app) deploy(lines ...string) string {
	a.t.Helper()
	a.write(lines...)
	return a.rollOut()
}

// rollOut rolls out what the .env asks for.
func (a *app) rollOut() string {
	a.t.Helper()
	return rollOut(a, a.name)
}

// rollOut rolls apps out, all of them if none is named.
func rollOut(a *app, names ...string) string {
	a.t.Helper()
	r := run(a, names...)
	if r.Code != 0 {
		a.t.Fatalf("app-rollout run %s: status %d\n%s%s", strings.Join(names, " "), r.Code, r.Out, r.Err)
	}
	return r.Out
}

// run rolls the app out. It may fail.
func (a *app) run() machine.Result { return run(a, a.name) }

// run is `app-rollout run`. It may fail.
func run(a *app, names ...string) machine.Result {
	return a.Run(context.Background(), "app-rollout", append([]string{"run"}, names...)...)
}

// fails writes the .env and rolls it out, which must fail; the error says why.
func (a *app) fails(what, why string, lines ...string) machine.Result {
	a.t.Helper()
	a.write(lines...)
	r := a.run()
	if r.Code != 1 || !strings.Contains(r.Err, why) {
		a.t.Errorf("%s: status %d, want 1 and %q:\n%s%s", what, r.Code, why, r.Out, r.Err)
	}
	return r
}

// begins writes the .env, starts a rollout, and waits until the rollout's status
// contains doing.
func (a *app) begins(doing string, lines ...string) {
	a.t.Helper()
	a.write(lines...)
	a.Must("systemctl", "start", "--no-block", a.service())
	a.until(doing)
}

// until waits until the status of the app's rollout contains doing.
func (a *app) until(doing string) {
	a.t.Helper()
	a.untilOf(a.service(), doing)
}

// untilOf is until for another service. The status of a service that does not run is
// that of its last run.
func (a *app) untilOf(service, doing string) {
	a.t.Helper()
	a.Wait(service+" to say "+doing, 30*time.Second, func() bool {
		now := a.Must("systemctl", "show", "--property=ActiveState,StatusText", service)
		return strings.Contains(now, "ActiveState=activating") && strings.Contains(now, doing)
	})
}

// instances are the app's running units, in the order of systemctl.
func (a *app) instances() string {
	a.t.Helper()
	return strings.Join(strings.Fields(a.Sh("systemctl list-units --plain --no-legend --state=active,activating,deactivating '"+a.name+"@*.service' '"+a.name+".service' | cut -d' ' -f1 | sed s/.service//")), " ")
}

// want checks that exactly these instances run.
func (a *app) want(units string) {
	a.t.Helper()
	if got := a.instances(); got != units {
		a.t.Fatalf("%q run, want %q", got, units)
	}
}

// pids are the main processes of these instances of the app.
func (a *app) pids(numbers ...string) (pids string) {
	a.t.Helper()
	for _, n := range numbers {
		pids += a.Property(a.name+"@"+n+".service", "MainPID") + " "
	}
	return pids
}

// crash kills the main process of a unit and waits until it has a new one.
func (a *app) crash(unit string) (pid string) {
	a.t.Helper()
	was := a.Property(unit, "MainPID")
	a.Must("kill", "-KILL", was)
	a.Wait(unit+" to come back", 20*time.Second, func() bool {
		pid = a.Property(unit, "MainPID")
		return pid != was && pid != "0" && a.Property(unit, "ActiveState") == "active"
	})
	return pid
}

// receipt is the record of one of the app's generations: its number, or "current".
func (a *app) receipt(generation string) *store.Generation {
	a.t.Helper()
	path := "/var/lib/app-rollout/" + a.name + "/"
	if generation != "current" {
		path += "generations/"
	}
	g := new(store.Generation)
	if err := json.Unmarshal([]byte(a.Read(path+generation+"/generation.json")), g); err != nil {
		a.t.Fatalf("generation %s of %s: %v", generation, a.name, err)
	}
	return g
}

// discard ends the app at once and frees its port.
func (a *app) discard() {
	a.t.Helper()
	units := "'" + a.name + "@*.service'"
	a.Sh("rm -f " + a.path() + "; systemctl kill -s KILL " + units + "; systemctl stop " + units + "; systemctl reset-failed " + units)
}

// litter is a script that prints what a rollout must not leave behind: unit files
// that no running instance of the current generation uses, and units that
// multi-user.target wants though they do not run.
func (a *app) litter() string {
	return strings.ReplaceAll(`
for file in $(ls -d /run/systemd/system/APP* 2>/dev/null || true); do
	generation=$(basename "$(readlink /var/lib/app-rollout/APP/current)")
	systemctl is-active -q "${file##*/}" && grep -qx "SourcePath=/var/lib/app-rollout/APP/generations/$generation/env" "$file" || echo "$file"
done
for unit in $(systemctl show --value -p Wants multi-user.target | tr ' ' '\n' | grep '^APP[@.]' || true); do
	systemctl is-active -q "$unit" || echo "$unit, which is wanted"
done
`, "APP", a.name)
}

// nothingLeft checks that a rollout has left neither failed units nor files.
func (a *app) nothingLeft(of string) {
	a.t.Helper()
	if left := a.Sh("systemctl list-units --plain --no-legend --state=failed '" + a.name + "@*'" + a.litter()); left != "" {
		a.t.Errorf("%s: left behind: %s", of, left)
	}
}

// port is the address that clients ask unless a story gives another one.
const port = "127.0.0.1:8080"

// clients starts clients. Each pauses after every answer.
func (a *app) clients(workers int, pause time.Duration) *machine.Load {
	a.t.Helper()
	return a.Load(load.Options{Addr: port, Workers: workers, Pause: pause, Timeline: true})
}

// busy starts clients that leave the machine some room, and waits for their first
// answers.
func (a *app) busy() *machine.Load {
	a.t.Helper()
	c := a.clients(8, 2*time.Millisecond)
	a.more(c, 50)
	return c
}

// more waits until clients have so many more answers.
func (a *app) more(c *machine.Load, answers int) {
	a.t.Helper()
	last := c.Answered()
	a.Wait("answers", 30*time.Second, func() bool { return c.Answered() > last+answers })
}

// answersOnly asks the app some times and checks that every answer comes from that
// generation.
func (a *app) answersOnly(generation string) {
	a.t.Helper()
	client := a.Load(load.Options{Addr: port, Workers: 2})
	a.more(client, 40)
	onlyFrom(a.t, client.Stop(), generation)
}

// onlyFrom checks that every answer came from that generation.
func onlyFrom(t *testing.T, report *load.Report, generation string) {
	t.Helper()
	for label := range report.Labels {
		if !strings.HasPrefix(label, generation+" ") {
			t.Errorf("an answer from %q, want only %q", label, generation)
		}
	}
}

// nothingLost checks that every request of the clients was answered.
func nothingLost(t *testing.T, report *load.Report) {
	t.Helper()
	t.Logf("clients: %v", report)
	if report.Lost() > 0 || report.Answered() == 0 {
		t.Errorf("%d of %d lost: %v", report.Lost(), report.Lost()+report.Answered(), report.Failures)
	}
}

// booted waits until the boot service has ended well.
func (a *app) booted() {
	a.t.Helper()
	a.boot("exited")
}

// boot waits until the boot service is in that state: "exited" or "failed".
func (a *app) boot(state string) {
	a.t.Helper()
	a.Wait("the boot service to have "+state, 60*time.Second, func() bool {
		return a.Property("app-rollout-boot.service", "SubState") == state
	})
}

// journal returns the lines of this boot's journal that match.
func (a *app) journal(match ...string) string {
	a.t.Helper()
	a.Must("journalctl", "--sync")
	return a.Must("journalctl", append([]string{"-q", "-b", "-o", "cat"}, match...)...)
}

// logged waits until a matching line of the journal contains this text. What a
// service logs may reach the journal after the service has ended.
func (a *app) logged(line string, match ...string) {
	a.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		log := a.journal(match...)
		if strings.Contains(log, line) {
			return
		}
		if time.Now().After(end) {
			a.t.Errorf("the journal of %v does not say %q:\n%s", match, line, log)
			return
		}
	}
}
