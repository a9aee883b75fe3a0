// Package journal writes what a rollout reports, one record for each step with fields
// to search by, and reads it back for those who follow the rollout.
package journal

import (
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"

	"github.com/coreos/go-systemd/v22/daemon"
	sdjournal "github.com/coreos/go-systemd/v22/journal"

	"app-rollout/rollout-helper/rollout"
	"app-rollout/units"
)

// Log reports the steps of a run: to the journal, one record for each step with fields
// to search by, or to a person, one line for each step. Under systemd it also sets the
// status text of the service.
type Log struct {
	mu      sync.Mutex
	out     io.Writer
	err     io.Writer
	journal bool
	service string // the service whose helper this is; "" for a person's command
	run     string // and its invocation; "" for a person's command
}

// The fields of a record, beside units.LogField. The journal cannot tell who has written the
// last records of a process that has ended since. So two fields of our own say it, which
// are believed of root alone.
const (
	stepField       = "APP_ROLLOUT_STEP"
	generationField = "APP_ROLLOUT_GENERATION"
	instanceField   = "APP_ROLLOUT_INSTANCE" // of a failure: the instance that did it
	remedyField     = "APP_ROLLOUT_REMEDY"   // of a failure: what to do
	resultField     = "APP_ROLLOUT_RESULT"   // of the record that tells how it ended for an app: "ready" or "failed"
	serviceField    = "APP_ROLLOUT_SERVICE"  // the service whose helper wrote the record
	runField        = "APP_ROLLOUT_RUN"      // the invocation of that service
)

// NewLog is the log of this process. It prints to the process's output if that does not
// go to the journal.
func NewLog(out, err io.Writer) *Log {
	// systemd sets $JOURNAL_STREAM for a service whose output goes to the journal; see
	// systemd.exec(5). A command in such a service whose output goes elsewhere inherits
	// it, so it is compared with the output.
	stream, failed := sdjournal.StderrIsJournalStream()
	return &Log{out: out, err: err, journal: failed == nil && stream, service: Service(), run: os.Getenv("INVOCATION_ID")}
}

// Service is the unit that this process runs in, by its control group; see
// cgroups(7).
func Service() string {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if group, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok && strings.HasSuffix(group, ".service") {
			return path.Base(group)
		}
	}
	return ""
}

// Event reports one event.
func (l *Log) Event(e rollout.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := e.Line()
	// Without systemd there is nobody to notify, which is no error.
	_, _ = daemon.SdNotify(false, "STATUS="+text)
	if !l.journal {
		if e.Level == rollout.Info {
			fmt.Fprintln(l.out, text)
		} else {
			fmt.Fprintln(l.err, text)
		}
		return
	}
	fields := map[string]string{units.LogField: e.App, stepField: e.Step, serviceField: l.service, runField: l.run}
	if e.Unit != "" {
		fields[instanceField] = e.Unit
	}
	if e.Remedy != "" {
		fields[remedyField] = e.Remedy
	}
	if e.Result != "" {
		fields[resultField] = e.Result
	}
	if e.Generation > 0 {
		fields[generationField] = strconv.Itoa(e.Generation)
	}
	priority := map[rollout.Level]sdjournal.Priority{
		rollout.Info: sdjournal.PriInfo, rollout.Warning: sdjournal.PriWarning, rollout.Failed: sdjournal.PriErr,
	}[e.Level]
	if sdjournal.Send(text, priority, fields) != nil {
		fmt.Fprintln(l.err, text)
	}
}
