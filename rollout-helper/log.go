package main

import (
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/coreos/go-systemd/v22/journal"

	"app-rollout/rollout-helper/rollout"
)

// log tells the story of a run: to the journal, one record a step with fields
// to search by, or to a person, a line a step. Under systemd it is the
// service's status text too.
type log struct {
	mu      sync.Mutex
	journal bool
	service string // that this is the helper of; "" for a person's command
}

// serviceField names the service in each record of its helper.
const serviceField = "APP_ROLLOUT_SERVICE"

func newLog() *log {
	// Set by systemd for a service whose output goes to the journal; see
	// systemd.exec(5). A shell in such a service is the exception.
	stream, err := journal.StderrIsJournalStream()
	return &log{journal: err == nil && stream, service: service()}
}

// service is the unit that this process runs in, by its control group; see
// cgroups(7).
func service() string {
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

func (l *log) event(e rollout.Event) {
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
			fmt.Println(text)
		} else {
			fmt.Fprintln(os.Stderr, text)
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
	priority := map[rollout.Level]journal.Priority{
		rollout.Info: journal.PriInfo, rollout.Warning: journal.PriWarning, rollout.Failed: journal.PriErr,
	}[e.Level]
	if journal.Send(text, priority, fields) != nil {
		fmt.Fprintln(os.Stderr, text)
	}
}

// oneLine keeps several problems on one line each to one record.
func oneLine(s string) string { return strings.ReplaceAll(s, "\n", "; ") }
