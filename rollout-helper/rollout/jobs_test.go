package rollout

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"app-rollout/rollout-helper/systemd"
)

// unitState is what systemd says of a unit.
type unitState struct {
	active, sub, result string
	status              int32
	restarts            uint32
	condition           bool
}

// jobResult is how a start job ends, and what becomes of its unit.
type jobResult struct {
	name   string
	result string
	err    error
	state  unitState
	later  string // the unit's state 3 s later
	why    string // "" if the rollout succeeds
}

// said is an error in systemd's own words.
type said string

func (s said) Error() string { return string(s) }

var jobResults = []jobResult{
	{name: "simple, missing binary", result: "done", state: unitState{"failed", "failed", "exit-code", 203, 0, true}, why: "could not be executed (status 203/EXEC)"},
	{name: "simple, missing binary, restarted", result: "done", state: unitState{"activating", "auto-restart", "exit-code", 203, 0, true}, why: "could not be executed (status 203/EXEC)"},
	{name: "exec, missing binary", result: "failed", state: unitState{"failed", "failed", "exit-code", 203, 0, true}, why: "could not be executed (status 203/EXEC)"},
	{name: "ConditionPathExists unmet", result: "done", state: unitState{"inactive", "dead", "success", 0, 0, false}, why: "a condition of its unit does not hold"},
	{name: "Assert unmet", result: "assert", state: unitState{"inactive", "dead", "success", 0, 0, true}, why: "an assertion of its unit does not hold"},
	{name: "notify, start time-out", result: "failed", state: unitState{"failed", "failed", "timeout", 0, 0, true}, why: "did not report READY=1 in time"},
	{name: "notify, start time-out, restarted", result: "failed", state: unitState{"activating", "auto-restart", "timeout", 0, 1, true}, why: "did not report READY=1 in time"},
	{name: "notify, crash with restart", result: "failed", state: unitState{"activating", "auto-restart", "exit-code", 3, 1, true}, why: "exited with status 3"},
	{name: "notify, crash with restart, queued", result: "failed", state: unitState{"activating", "auto-restart-queued", "exit-code", 3, 0, true}, why: "exited with status 3"},
	{name: "required unit fails", result: "dependency", state: unitState{"inactive", "dead", "success", 0, 0, true}, why: "a unit that it requires failed"},
	{name: "unknown unit", err: said("Unit shop@3.service not found."), state: unitState{"inactive", "dead", "", 0, 0, false}, why: "could not be started: Unit shop@3.service not found"},
	{name: "stopped during its start", result: "canceled", state: unitState{"inactive", "dead", "success", 0, 0, true}, why: "its start was cancelled by another job"},
	{name: "daemon-reload during its start", result: "done", state: unitState{"active", "running", "success", 0, 0, true}},
	{name: "daemon-reexec during its start", result: systemd.Lost, state: unitState{"active", "running", "success", 0, 0, true}},
	{name: "daemon-reexec during its start, which goes on", result: systemd.Lost, state: unitState{"activating", "start", "success", 0, 0, true}, later: "active"},
	{name: "daemon-reexec during its start, which fails", result: systemd.Lost, state: unitState{"failed", "failed", "exit-code", 3, 0, true}, why: "exited with status 3"},
	{name: "killed for want of memory", result: "failed", state: unitState{"activating", "auto-restart", "oom-kill", 9, 1, true}, why: "was killed for want of memory"},
	{name: "killed for want of memory, and started again by now", result: "done", state: unitState{"active", "running", "success", 0, 1, true}, why: "ended, and was started again"},
	{name: "killed by a signal", result: "done", state: unitState{"failed", "failed", "signal", 11, 0, true}, why: "was ended by SIGSEGV"},
	{name: "no working directory", result: "failed", state: unitState{"failed", "failed", "exit-code", 200, 0, true}, why: "could not enter its working directory"},
	{name: "no user", result: "failed", state: unitState{"failed", "failed", "exit-code", 217, 0, true}, why: "could not run as its user"},
	{name: "no sandbox", result: "failed", state: unitState{"failed", "failed", "exit-code", 226, 0, true}, why: "could not be set up in its sandbox"},
	{name: "no environment file", result: "failed", state: unitState{"failed", "failed", "resources", 0, 0, true}, why: "could not be set up by systemd"},
	{name: "ended without READY=1", result: "failed", state: unitState{"failed", "failed", "protocol", 0, 0, true}, why: "ended without reporting READY=1"},
}

// TestJobResults: what the end of a start job says, and what is true then. The
// rows were seen on systemd 252 and 257; success is "done" and an active unit,
// nothing else.
func TestJobResults(t *testing.T) {
	for _, c := range jobResults {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { holdsJobResult(t, c) })
		})
	}
}

func holdsJobResult(t *testing.T, c jobResult) {
	w := up(t)
	w.env("NEW=1")
	for _, u := range w.units {
		u.proved = true
	}
	w.check = func() { w.holds(t, 2) }
	w.starts = func(u *fakeUnit) (string, error) {
		u.Active, u.Sub, u.Result, u.ExitStatus, u.Restarts, u.Condition = c.state.active, c.state.sub, c.state.result, c.state.status, c.state.restarts, c.state.condition
		u.generation, u.started, u.Invocation = 2, time.Now(), u.Name
		if u.Active != "inactive" {
			u.ControlGroup = "/system.slice/" + u.Name
		}
		if c.later != "" {
			time.AfterFunc(3*time.Second, func() {
				w.mu.Lock()
				defer w.mu.Unlock()
				u.Active, u.Sub = c.later, "running"
			})
		}
		return c.result, c.err
	}
	err := w.machine().Swap(t.Context(), "shop")
	w.starts = nil
	if c.why == "" {
		if err != nil || current(t, w) != 2 {
			t.Errorf("Swap = %v, generation %d", err, current(t, w))
		}
	} else {
		if err == nil || !strings.Contains(err.Error(), c.why) || !strings.Contains(err.Error(), "see: journalctl -b -u shop@") {
			t.Errorf("Swap = %v, want %q", err, c.why)
		}
		if got, want := w.running(), "shop@1/1 shop@2/1"; got != want {
			t.Errorf("%s run, want %s", got, want)
		}
	}
	w.clean(t)
}
