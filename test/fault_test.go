//go:build story

package test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"app-rollout/test/load"
	"app-rollout/test/machine"
	steps "app-rollout/units/step"
)

// A step is a step of a rollout, by the name that its records have.
type step string

const (
	atLock    step = steps.Lock
	atFreeze  step = steps.Freeze
	atHold    step = steps.Hold
	atStart   step = steps.Start
	atShift   step = steps.Shift
	atWatch   step = steps.Watch
	atCommit  step = steps.Commit
	atDrain   step = steps.Drain
	atStop    step = steps.Stop
	atRecover step = steps.Recover
)

// A victim is a shop that suffers faults under load.
type victim struct {
	*app
	number int            // of the .env's version
	up     string         // the version that was deployed last
	lines  []string       // of each version's .env
	size   int            // how many instances a version has
	nodes  map[string]int // of the versions that have another number
	gate   *gate          // of the run that is under way, or nil

	inflicted, answered, lost int
}

// newVictim boots a machine and brings up the app.
func newVictim(t *testing.T) *victim {
	t.Helper()
	v := &victim{app: newShop(t, machine.Options{Files: gated()}), size: 2, nodes: map[string]int{}}
	v.deploy()
	return v
}

// deploy rolls out the next version. The rollout must succeed.
func (v *victim) deploy(lines ...string) (version string) {
	v.t.Helper()
	v.up = v.next()
	v.write(v.up, lines...)
	v.rollOut()
	return v.up
}

// next is the GENERATION of the next version of the .env.
func (v *victim) next() string {
	v.number++
	return fmt.Sprintf("v%d", v.number)
}

// write makes the .env of a version. Every answer begins with the version.
func (v *victim) write(version string, lines ...string) {
	v.t.Helper()
	v.app.write(slices.Concat([]string{"GENERATION=" + version, "SYSTEMD_CLUSTER_READY_SEC=20"}, v.lines, lines)...)
}

// instancesOf is how many instances a version has.
func (v *victim) instancesOf(version string) int {
	if n, ok := v.nodes[version]; ok {
		return n
	}
	return v.size
}

// A wound is what a story does to a run in one of its steps.
type wound struct {
	at       step                     // the step in which it comes
	until    string                   // a shell condition that it waits for in the step; "" for none
	after    time.Duration            // how long it waits after that
	unit     string                   // the service of the run; "" is a rollout's
	do       string                   // a shell command; $unit is that service
	before   func()                   // is called right before it; nil for nothing
	powerOff func(m *machine.Machine) // waits until the machine is off; nil if it stays up
	again    bool                     // the recovery from it suffers it too
	last     bool                     // it comes when the run has only one record to write
}

// Conditions for wounds. $nodes is how many instances the new version has.
const (
	someStart   = `systemctl list-units --plain --no-legend --state=activating 'shop@*' | grep -q .`
	allActive   = `for file in /run/systemd/system/shop@*.service; do systemctl is-active --quiet "${file##*/}" || exit 1; done`
	someStop    = `systemctl list-units --plain --no-legend --state=deactivating 'shop@*' | grep -q .`
	onlyNewLeft = `[ $(systemctl list-units --plain --no-legend --state=active,activating,deactivating 'shop@*' | wc -l) -le "$nodes" ]`
)

// wounds starts a run, holds it in the step, wounds it there, and lets it go on. It
// reports whether the wound came before the step was over.
func (v *victim) wounds(version string, w wound) (hit bool) {
	v.t.Helper()
	if w.unit == "" {
		w.unit = v.service()
	}
	v.ungate()
	v.gate = newGate(v.t, v.Machine)
	v.gate.close(w.at)
	unlock := func() {}
	if w.at == atLock {
		// A run has this step only if another one has the app's lock.
		unlock = sync.OnceFunc(v.locks())
	}
	defer unlock()
	v.Must("systemctl", "start", "--no-block", w.unit)
	if !v.reaches(version, w) {
		v.t.Logf("%s: the step is over before it is wounded", w.at)
		v.gate.open()
		return false
	}
	if w.do != "" {
		v.strike(version, w)
		v.gate.open()
	}
	if w.powerOff != nil {
		if w.do != "" {
			// A machine that goes down in an orderly way stops the processes in it, and
			// nsenter with them, which then does not reap what it has started.
			unlock()
			v.ungate()
		}
		w.powerOff(v.Machine)
		v.ungate()
	}
	v.inflicted++
	return true
}

// reaches waits until the run is where the wound is to come. It reports whether the
// run is still in that step.
func (v *victim) reaches(version string, w wound) bool {
	v.t.Helper()
	said := v.gate.next(2 * time.Minute)
	if said == "" {
		v.t.Fatalf("the run did not get to its step %s", w.at)
	}
	// When the step is over, the status has the text of the next record, though that
	// record has not passed the gate. Where nothing is waited for, the gate is enough.
	over := func() bool {
		return !w.last && (w.until != "" || w.after > 0) && v.Property(w.unit, "StatusText") != said
	}
	if w.until != "" {
		v.Wait(w.until, 2*time.Minute, func() bool { return v.shell(w.unit, version, w.until).Code == 0 || over() })
	}
	time.Sleep(w.after)
	if w.before != nil {
		w.before()
	}
	return !over()
}

// strike does to the run what the wound does, and to its recovery if that suffers it
// too.
func (v *victim) strike(version string, w wound) {
	v.t.Helper()
	if r := v.shell(w.unit, version, w.do); r.Code != 0 {
		v.t.Errorf("%s at %s: status %d\n%s\n%s", w.do, w.at, r.Code, r.Out, r.Err)
	}
	if !w.again {
		return
	}
	v.gate.close(atRecover)
	if v.gate.next(time.Minute) == "" {
		v.t.Fatalf("there is no recovery from %s at %s", w.do, w.at)
	}
	if r := v.shell("app-rollout-recover@shop.service", version, w.do); r.Code != 0 {
		v.t.Errorf("%s at the recovery: status %d\n%s\n%s", w.do, r.Code, r.Out, r.Err)
	}
}

// shell runs a command for a wound.
func (v *victim) shell(unit, version, command string) machine.Result {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	return v.Run(ctx, "bash", "-c", fmt.Sprintf("unit=%s nodes=%d\n%s", unit, v.instancesOf(version), command))
}

// locks takes the app's lock, as another run would.
func (v *victim) locks() (unlock func()) {
	v.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan machine.Result, 1)
	go func() { ended <- v.Run(ctx, "flock", "/run/app-rollout/shop/lock", "sleep", "infinity") }()
	v.Wait("the lock", 20*time.Second, func() bool {
		return v.Run(context.Background(), "flock", "--nonblock", "/run/app-rollout/shop/lock", "true").Code != 0
	})
	return func() { cancel(); <-ended }
}

// ungate removes the gate.
func (v *victim) ungate() {
	if v.gate != nil {
		v.gate.end()
	}
	v.gate = nil
}

// settles waits until no run is under way, and the boot service has ended.
func (v *victim) settles() {
	v.t.Helper()
	v.Wait("the end of all runs", 3*time.Minute, func() bool {
		r := v.Run(context.Background(), "sh", "-c",
			`systemctl list-jobs --no-legend | grep -q app-rollout && exit 1
for unit in app-rollout.service app-rollout@shop.service app-rollout-rollback@shop.service app-rollout-restart@shop.service app-rollout-boot.service app-rollout-recover.service app-rollout-recover@shop.service; do
  case $(systemctl show --value -p ActiveState $unit) in activating|deactivating|reloading) exit 1;; esac
done`)
		return r.Code == 0
	})
	v.ungate()
}

// state is the state of the app, and all that a run can leave behind.
type state struct {
	version string // of the current generation
	answers string // the versions that answer
	units   string // the loaded units, with their state
	left    string // files that only a run needs
}

func (v *victim) state() state {
	v.t.Helper()
	out := v.Must("bash", "-uc", `
sed -n 's/^GENERATION=//p' /var/lib/app-rollout/shop/current/env | tail -n1
for i in 1 2 3 4 5 6 7 8; do
  exec 3<>/dev/tcp/127.0.0.1/8080; printf 'GET / HTTP/1.0\r\n\r\n' >&3; tail -n1 <&3; exec 3<&-
done | cut -d' ' -f1 | sort -u | paste -sd' '
systemctl list-units --all --plain --no-legend 'shop@*' shop.service | awk '$3 != "inactive" {print $1, $3}' | paste -sd' '
{ `+v.litter()+`
ls -d /run/app-rollout/shop/*.tmp /var/lib/app-rollout/shop/*.tmp /var/lib/app-rollout/shop/generations/new 2>/dev/null || true; } | paste -sd' '
`)
	lines := append(strings.Split(out, "\n"), "", "", "", "")
	return state{lines[0], lines[1], lines[2], lines[3]}
}

// whole checks that exactly one generation is there, that it is complete and of an
// allowed version, and that nothing is left that only a run needs.
func (v *victim) whole(what string, allowed ...string) {
	v.t.Helper()
	s := v.state()
	if !slices.Contains(allowed, s.version) {
		v.t.Errorf("%s: the current generation is of version %s, not %v", what, s.version, allowed)
	}
	if s.answers != s.version {
		v.t.Errorf("%s: the answers come from %q, not %s", what, s.answers, s.version)
	}
	nodes := v.instancesOf(s.version)
	if n := strings.Count(s.units, "active"); n != nodes || strings.Count(s.units, " ") != 2*nodes-1 {
		v.t.Errorf("%s: not %d active instances: %s", what, nodes, s.units)
	}
	if s.left != "" {
		v.t.Errorf("%s: left behind: %s", what, s.left)
	}
	if v.steered() {
		v.t.Errorf("%s: traffic is still steered", what)
	}
	if r := v.Run(context.Background(), "app-rollout", "history", "shop"); r.Code != 0 || strings.Contains(r.Out, "damaged") {
		v.t.Errorf("%s: the store: %s %s", what, r.Out, r.Err)
	}
}

// workers is how many requests the client of a victim makes at once.
const workers = 4

// client starts a client that asks all the time, but leaves the machine some room.
func (v *victim) client() *machine.Load {
	v.t.Helper()
	c := v.Load(load.Options{Addr: port, Workers: workers, Pause: 3 * time.Millisecond})
	v.more(c, 5)
	return c
}

// count stops a client and adds up what it saw. It must have lost nothing.
func (v *victim) count(what string, c *machine.Load) {
	v.t.Helper()
	v.countMost(what, c, 0)
}

// countMost is count for a client that may have lost at most so many requests.
func (v *victim) countMost(what string, c *machine.Load, most int) *load.Report {
	v.t.Helper()
	report := c.Stop()
	v.answered += report.Answered()
	v.lost += report.Lost()
	if report.Lost() > most {
		v.t.Errorf("%s: %v: %v", what, report, report.Failures[:min(3, len(report.Failures))])
	}
	return report
}
