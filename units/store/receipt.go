package store

import (
	"fmt"
	"strings"
	"time"

	"app-rollout/units/problem"
)

// Receipt says how a rollout went.
type Receipt struct {
	Started       time.Time `json:"started"`
	Seconds       float64   `json:"seconds"`
	Result        string    `json:"result"`           // "ready" or "failed"
	Reason        string    `json:"reason,omitempty"` // what went wrong
	Remedy        string    `json:"remedy,omitempty"` // what to do about it; version 0.1.0 wrote it into Reason
	Traffic       string    `json:"traffic"`          // "steered", "migrated" or "plain"
	TrafficReason string    `json:"traffic_reason,omitempty"`
	Drained       int       `json:"drained"` // connections that ended within the drain time
	Cut           int       `json:"cut"`     // connections still busy when it had passed
	// How much the kernel's counters, which are of the whole machine, grew.
	Migrated       uint64 `json:"migrated"`
	MigrateFailed  uint64 `json:"migrate_failed"`
	ListenDrops    uint64 `json:"listen_drops"`
	ListenOverflow uint64 `json:"listen_overflows"`
	Steps          []Step `json:"steps,omitempty"` // none: the boot started it
}

// Step is one step of a rollout and how long it took.
type Step struct {
	Name         string  `json:"step"`
	Milliseconds float64 `json:"ms"`
}

// Why is why the rollout failed, and what to do about it, on one line.
func (r *Receipt) Why() string { return problem.Join(r.Reason, r.Remedy) }

// Connections says what became of the connections. Of the kernel's counters, which
// are of the whole machine, it names only those that grew.
func (r *Receipt) Connections() string {
	text, whose := fmt.Sprintf("%d connections drained, %d cut", r.Drained, r.Cut), ""
	for _, c := range []struct {
		n    uint64
		what string
	}{{r.Migrated, "migrated"}, {r.MigrateFailed, "not migrated"}, {r.ListenDrops, "dropped"}} {
		if c.n > 0 {
			text += fmt.Sprintf(", %d %s", c.n, c.what)
			whose = " (of the whole machine)"
		}
	}
	return text + whose
}

// Took says how long each step took: "hold 2, start 41, ready 180 ms".
func (r *Receipt) Took() string {
	if len(r.Steps) == 0 {
		return ""
	}
	var steps []string
	for _, s := range r.Steps {
		steps = append(steps, fmt.Sprintf("%s %.0f", s.Name, s.Milliseconds))
	}
	return strings.Join(steps, ", ") + " ms"
}

// TrafficText says how connections got to the new instances, and why not better:
// "migrated (steering is not to be had)".
func (r *Receipt) TrafficText() string {
	if r.TrafficReason == "" {
		return r.Traffic
	}
	return r.Traffic + " (" + r.TrafficReason + ")"
}
