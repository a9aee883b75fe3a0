package rollout

import (
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"app-rollout/rollout-helper/systemd"
	"app-rollout/units/problem"
)

// Failure is what one instance did that ended a rollout.
type Failure struct {
	Unit string
	How  string
}

func (f *Failure) Error() string { return f.AsProblem().Error() }

// AsProblem is the failure with what to do about it: see problem.Of.
func (f *Failure) AsProblem() *problem.Problem {
	return &problem.Problem{Text: f.Unit + " " + f.How, Remedy: "see: " + inThisBoot + "-u " + f.Unit}
}

// notStarted is the failure of an instance that systemd has not even tried to start.
type notStarted struct{ failure *Failure }

func (n *notStarted) Error() string { return n.failure.Error() }

func (n *notStarted) Unwrap() error { return n.failure }

// AsProblem is the failure: see problem.Of.
func (n *notStarted) AsProblem() *problem.Problem { return n.failure.AsProblem() }

// inThisBoot is how a remedy names the journal of this boot.
const inThisBoot = "journalctl -b "

// lasting is a remedy that is read again later, maybe in another boot, in which other
// instances have the same numbers: it names the time. The boot it could not name: in a
// container, what the helper's sandbox sees as the boot's id is not the journal's.
func lasting(remedy string, since, until time.Time) string {
	return strings.Replace(remedy, inThisBoot, fmt.Sprintf("journalctl --since=@%d --until=@%d ", since.Unix(), until.Unix()+1), 1)
}

// ended says how a unit that should run has ended: see systemd.exec(5), "Process Exit
// Codes".
func ended(u systemd.Unit) string {
	switch u.Result {
	case "exit-code", "success", "":
		if u.Restarts > 0 && u.ExitCode == 0 && u.ExitStatus == 0 {
			// When systemd starts a unit again, it forgets how the unit ended.
			return "ended, and was started again"
		}
		if !u.Condition && u.MainPID == 0 && u.ExitCode == 0 {
			return "was not started: a condition of its unit does not hold"
		}
		switch u.ExitStatus {
		case 200:
			return "could not enter its working directory (status 200/CHDIR)"
		case 203:
			return "could not be executed (status 203/EXEC)"
		case 217:
			return "could not run as its user (status 217/USER)"
		case 226:
			return "could not be set up in its sandbox (status 226/NAMESPACE)"
		}
		return fmt.Sprintf("exited with status %d", u.ExitStatus)
	case "signal", "core-dump":
		return "was ended by " + unix.SignalName(unix.Signal(u.ExitStatus))
	case "oom-kill":
		return "was killed for want of memory"
	case "timeout":
		return "did not report READY=1 in time"
	case "protocol":
		return "ended without reporting READY=1"
	case "resources":
		return "could not be set up by systemd (its environment file, its user or a limit)"
	}
	return "failed with result " + u.Result
}

// started judges a start: by the result of the job, and then by the unit. A result
// "done" does not say that the unit runs: see the table in the tests.
func started(result string, err error, u systemd.Unit) error {
	not := func(how string) error { return &notStarted{&Failure{u.Name, how}} }
	switch {
	case err != nil:
		return not("could not be started: " + strings.TrimSuffix(err.Error(), "."))
	case result == "dependency":
		return not("was not started: a unit that it requires failed")
	case result == "assert":
		return not("was not started: an assertion of its unit does not hold")
	case result == "canceled":
		return not("was not started: its start was cancelled by another job")
	case u.Restarts > 0 || u.Sub == "auto-restart" || u.Sub == "auto-restart-queued":
		return &Failure{u.Name, ended(u)}
	case u.Up(), u.Active == "activating":
		return nil
	}
	return &Failure{u.Name, ended(u)}
}
