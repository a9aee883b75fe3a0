//go:build story

package test

import (
	"bufio"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"app-rollout/test/load"
	"app-rollout/test/machine"
)

// The faults of the matrix. What is killed is the helper, not the app.
const (
	kill   = "SIGKILL"
	term   = "SIGTERM"
	stop   = "systemctl stop"
	cut    = "power cut"
	reboot = "reboot"
)

// inflict is what a fault does, as a shell command in the machine.
var inflict = map[string]string{
	kill:   `kill -KILL $(cat "$procs")`,
	term:   `kill -TERM $(cat "$procs")`,
	stop:   `systemctl stop --no-block "$unit"`,
	cut:    ":", // from outside, like
	reboot: ":",
}

// A victim is an app on a machine to which faults are done under load.
type victim struct {
	t      *testing.T
	m      *machine.Machine
	number int            // of the .env's version
	up     string         // the version that was deployed last
	lines  []string       // of each version's .env
	size   int            // how many instances a version has
	nodes  map[string]int // of the versions that have another number

	inflicted, answered, lost int
}

// newVictim boots a machine and brings up the app.
func newVictim(t *testing.T, release string) *victim {
	t.Helper()
	v := &victim{t: t, size: 2, m: machine.Boot(t, machine.Options{Release: release, Install: true, Layers: []string{machine.Apps(t)}})}
	v.deploy()
	return v
}

// deploy rolls out the next version, which must go well.
func (v *victim) deploy(lines ...string) (version string) {
	v.t.Helper()
	v.up = v.next()
	v.write(v.up, lines...)
	deploys(v.t, v.m, "shop")
	return v.up
}

// next is the GENERATION of the next version of the .env.
func (v *victim) next() string {
	v.number++
	return fmt.Sprintf("v%d", v.number)
}

// write makes the .env, of which the answers tell the version.
func (v *victim) write(version string, lines ...string) {
	v.t.Helper()
	v.m.Write("/etc/app-rollout/shop.env", shop(slices.Concat([]string{"GENERATION=" + version, "SYSTEMD_CLUSTER_READY_SEC=20"}, v.lines, lines)...), 0o644)
}

// A wound is one fault at one step of a run.
type wound struct {
	fault string
	do    string        // a shell command instead of a fault
	unit  string        // the service of the run; "" is a rollout's
	at    string        // the step whose record is waited for
	after time.Duration // so much longer
	again bool          // the recovery from it is hit too
	late  bool          // it may come when all is over
}

// wounds starts a run that meets the fault, and returns when that is done. The
// run waits for the app's lock until its records are followed, so that none
// is missed.
func (v *victim) wounds(w wound) {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	do := w.do
	if do == "" {
		do = inflict[w.fault]
	}
	unit := w.unit
	if unit == "" {
		unit = "app-rollout@shop.service"
	}
	script := `
unit=` + unit + `
exec 9>/run/app-rollout/shop/lock
flock 9
since=$(date +@%s.%6N)
systemctl start --no-block "$unit"
group=
until [ -n "$group" ]; do group=$(systemctl show --value -p ControlGroup "$unit"); done
procs=/sys/fs/cgroup$group/cgroup.procs
run=$(systemctl show --value -p InvocationID "$unit")
again=` + fmt.Sprint(w.again) + `
recovery=app-rollout-recover@shop.service
journalctl -q -f --lines=all --since="$since" -o json --output-fields=APP_ROLLOUT_STEP APP_ROLLOUT_APP=shop _SYSTEMD_INVOCATION_ID="$run" + \
  APP_ROLLOUT_APP=shop APP_ROLLOUT_SERVICE="$recovery" | while read -r line; do
  case "$line" in *'"APP_ROLLOUT_STEP":"` + w.at + `"'*)
    sleep ` + fmt.Sprint(w.after.Seconds()) + `
    { ` + do + `; } </dev/null >&2 || echo missed
    $again || echo inflicted
  esac
  case "$line" in *'"APP_ROLLOUT_STEP":"recover"'*)
    procs=/sys/fs/cgroup$(systemctl show --value -p ControlGroup "$recovery")/cgroup.procs
    { ` + do + `; } || echo missed
    echo inflicted
  esac
  case "$line" in *'"APP_ROLLOUT_STEP":"lock"'*) flock -u 9;; esac
done`
	cmd, done, err := v.m.Command(ctx, "bash", "-c", script)
	if err != nil {
		v.t.Fatal(err)
	}
	defer done()
	out, err := cmd.StdoutPipe()
	if err != nil {
		v.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		v.t.Fatal(err)
	}
	inflicted, missed := false, false
	for lines := bufio.NewScanner(out); !inflicted && lines.Scan(); {
		if lines.Text() == "missed" {
			missed = true
			if !w.late && !brief[w.at] {
				v.t.Errorf("%s%s at %s: the run had ended", w.fault, w.do, w.at)
			}
		}
		inflicted = lines.Text() == "inflicted"
	}
	if inflicted && w.fault == cut {
		v.m.Kill()
	}
	cancel()
	_ = cmd.Wait()
	if !inflicted {
		v.t.Fatalf("%s%s: the run did not get to its step %s", w.fault, w.do, w.at)
	}
	if missed {
		v.t.Logf("%s%s at %s: came when all was over, and is not counted", w.fault, w.do, w.at)
		return
	}
	v.inflicted++
}

// brief are the steps that may be over, and the run with them, by the time that
// the journal has told of them: the model of the unit layer hits them exactly.
var brief = map[string]bool{"lock": true, "freeze": true, "hold": true, "shift": true, "commit": true, "stop": true, "forget": true}

// settles waits until no run is under way; after a boot, until it is converged.
func (v *victim) settles() {
	v.t.Helper()
	v.m.Wait("the end of all runs", 2*time.Minute, func() bool {
		r := v.m.Run(context.Background(), "sh", "-c",
			`systemctl list-jobs --no-legend | grep -q app-rollout && exit 1
for unit in app-rollout.service app-rollout@shop.service app-rollout-rollback@shop.service app-rollout-boot.service app-rollout-recover.service app-rollout-recover@shop.service; do
  case $(systemctl show --value -p ActiveState $unit) in activating|deactivating|reloading) exit 1;; esac
done`)
		return r.Code == 0
	})
}

// state is how the app stands, and all that a run can leave behind.
type state struct {
	version string // of the current generation
	answers string // the versions of the answers, and how many instances answer
	units   string // that are loaded, with their state
	left    string
}

func (v *victim) state() state {
	v.t.Helper()
	out := v.m.Must("bash", "-uc", `
sed -n 's/^GENERATION=//p' /var/lib/app-rollout/shop/current/env | tail -n1
for i in 1 2 3 4 5 6 7 8; do
  exec 3<>/dev/tcp/127.0.0.1/8080; printf 'GET / HTTP/1.0\r\n\r\n' >&3; tail -n1 <&3; exec 3<&-
done | cut -d' ' -f1 | sort -u | paste -sd' '
systemctl list-units --all --plain --no-legend 'shop@*' shop.service | awk '$3 != "inactive" {print $1, $3}' | paste -sd' '
{ `+litter+`
ls -d /run/app-rollout/shop/*.tmp /var/lib/app-rollout/shop/*.tmp /var/lib/app-rollout/shop/generations/new 2>/dev/null || true; } | paste -sd' '
`)
	lines := append(strings.Split(out, "\n"), "", "", "", "")
	return state{lines[0], lines[1], lines[2], lines[3]}
}

// whole checks that exactly one generation is there, complete, and nothing
// that only a run needs; its version must be one of those allowed.
func (v *victim) whole(what string, allowed ...string) {
	v.t.Helper()
	s := v.state()
	fine := false
	for _, version := range allowed {
		fine = fine || version == s.version
	}
	if !fine {
		v.t.Errorf("%s: the current generation is of version %s, not %v", what, s.version, allowed)
	}
	if s.answers != s.version {
		v.t.Errorf("%s: the answers come from %q, not %s", what, s.answers, s.version)
	}
	nodes := v.size
	if n, ok := v.nodes[s.version]; ok {
		nodes = n
	}
	if n := strings.Count(s.units, "active"); n != nodes || strings.Count(s.units, " ") != 2*nodes-1 {
		v.t.Errorf("%s: not %d active instances: %s", what, nodes, s.units)
	}
	if s.left != "" {
		v.t.Errorf("%s: left behind: %s", what, s.left)
	}
	if steered(v.t, v.m) {
		v.t.Errorf("%s: traffic is still steered", what)
	}
	if r := v.m.Run(context.Background(), "app-rollout", "history", "shop"); r.Code != 0 || strings.Contains(r.Out, "damaged") {
		v.t.Errorf("%s: the store: %s %s", what, r.Out, r.Err)
	}
}

// client asks all the time, but leaves the machine some room.
func (v *victim) client() *machine.Load {
	v.t.Helper()
	c := v.m.Load(load.Options{Addr: "127.0.0.1:8080", Workers: 4, Pause: 3 * time.Millisecond})
	v.m.Wait("answers", 20*time.Second, func() bool { return c.Answered() > 5 })
	return c
}

// count adds up what a client saw and fails the test if it lost more than that.
func (v *victim) count(what string, c *machine.Load, most int) {
	v.t.Helper()
	report := c.Stop()
	v.answered += report.Answered()
	v.lost += report.Lost()
	if report.Lost() > most {
		v.t.Errorf("%s: %v: %v", what, report, report.Failures[:min(3, len(report.Failures))])
	}
}
