// Package journal is what rollouts tell: it writes it, one record a step with
// fields to search by, and reads it back for those who follow.
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
)

// Log tells the story of a run: to the journal, one record a step with fields
// to search by, or to a person, a line a step. Under systemd it is the
// service's status text too.
type Log struct {
	mu      sync.Mutex
	out     io.Writer
	err     io.Writer
	journal bool
	service string // that this is the helper of; "" for a person's command
}

// serviceField names the service in each record of its helper.
const serviceField = "APP_ROLLOUT_SERVICE"

// NewLog is for this process. Where its output does not go to the journal,
// it prints there.
func NewLog(out, err io.Writer) *Log {
	// Set by systemd for a service whose output goes to the journal; see
	// systemd.exec(5). A shell in such a service is the exception.
	stream, failed := sdjournal.StderrIsJournalStream()
	return &Log{out: out, err: err, journal: failed == nil && stream, service: Service()}
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

// Event tells one thing.
func (l *Log) Event(e rollout.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := e.Text
	if e.App != "" {
		text = e.App + ": " + text
	}
	text = oneLine(text)
	// Nobody to notify is no error.
	_, _ = daemon.SdNotify(false, "STATUS="+text)
	if !l.journal {
		if e.Level == rollout.Info {
			fmt.Fprintln(l.out, text)
		} else {
			fmt.Fprintln(l.err, text)
		}
		return
	}
	fields := map[string]string{"APP_ROLLOUT_APP": e.App, "APP_ROLLOUT_STEP": e.Step, serviceField: l.service}
	if e.Unit != "" {
		fields["APP_ROLLOUT_INSTANCE"] = e.Unit
	}
	if e.Generation > 0 {
		fields["APP_ROLLOUT_GENERATION"] = strconv.Itoa(e.Generation)
	}
	priority := map[rollout.Level]sdjournal.Priority{
		rollout.Info: sdjournal.PriInfo, rollout.Warning: sdjournal.PriWarning, rollout.Failed: sdjournal.PriErr,
	}[e.Level]
	if sdjournal.Send(text, priority, fields) != nil {
		fmt.Fprintln(l.err, text)
	}
}

// oneLine keeps several problems on one line each to one record.
func oneLine(s string) string { return strings.ReplaceAll(s, "\n", "; ") }
