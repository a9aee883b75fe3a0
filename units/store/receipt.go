package store

import (
	"fmt"
	"strings"
	"time"

	"app-rollout/units/problem"
)

// Receipt says how a rollout went.
type Receipt struct {
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`
	Result  string    `json:"result"`           // "ready" or "failed"
	Reason  string    `json:"reason,omitempty"` // what went wrong
	Remedy  string    `json:"remedy,omitempty"` // what to do about it; version 0.1.0 wrote it into Reason
	// Traffic is "steered", "migrated" or "plain"; "" if there was no traffic to
	// direct: the app has no TCP listener, or its release command has failed. Then there
	// are no Counts either.
	Traffic       string `json:"traffic,omitempty"`
	TrafficReason string `json:"traffic_reason,omitempty"`
	*Counts
	Steps []Step `json:"steps,omitempty"` // none: version 0.1.0 recorded what a boot had started
}

// Counts says what became of connections.
type Counts struct {
	// Of the instances that were stopped. Drained had ended by themselves before their
	// instance was told to stop, Closed were at rest then, and Cut were not: an answer
	// was owed or being sent, or the app had been seen to send by itself on it.
	Drained int `json:"drained"`
	Closed  int `json:"closed"`
	Cut     int `json:"cut"`
	Streams int `json:"streams"` // how many of the cut ones the app had been seen to send on by itself
	// ToldToClose are connections whose clients were told to close by an answer; those that
	// did so are among Drained. Untold are answers that could not tell it.
	ToldToClose int `json:"told"`
	Untold      int `json:"untold"`
	// How much the kernel's counters, which are of the whole machine, grew.
	Migrated       uint64 `json:"migrated"`
	MigrateFailed  uint64 `json:"migrate_failed"`
	ListenDrops    uint64 `json:"listen_drops"`
	ListenOverflow uint64 `json:"listen_overflows"`
}

// NewReceipt is the receipt of a rollout that begins.
func NewReceipt(traffic string) *Receipt {
	return &Receipt{Started: time.Now(), Traffic: traffic, Counts: new(Counts)}
}

// Step is one step of a rollout and how long it took.
type Step struct {
	Name         string  `json:"step"`
	Milliseconds float64 `json:"ms"`
}

// Why is why the rollout failed, and what to do about it, on one line.
func (r *Receipt) Why() string { return problem.Join(r.Reason, r.Remedy) }

// Told is what is told of traffic and connections, to follow how long the rollout
// took: ", traffic steered, 3 connections drained, 0 cut". It is "" if the app has no
// TCP listener.
func (r *Receipt) Told() string {
	if r.Counts == nil {
		return ""
	}
	return ", traffic " + r.TrafficText() + ", " + r.Connections()
}

// Connections says what became of the connections. One that was told to close is counted
// once more as what became of it. Of the kernel's counters, which are of the whole machine,
// it names only those that grew.
func (c *Counts) Connections() string {
	text, whose := fmt.Sprintf("%d connections drained", c.Drained), ""
	if c.ToldToClose > 0 {
		text += fmt.Sprintf(", %d told to close", c.ToldToClose)
	}
	if c.Untold > 0 {
		text += fmt.Sprintf(", %d answers could not tell", c.Untold)
	}
	if c.Closed > 0 {
		text += fmt.Sprintf(", %d closed at rest", c.Closed)
	}
	text += fmt.Sprintf(", %d cut", c.Cut)
	if c.Streams > 0 {
		text += fmt.Sprintf(" (streams: %d)", c.Streams)
	}
	for _, grown := range []struct {
		n    uint64
		what string
	}{{c.Migrated, "migrated"}, {c.MigrateFailed, "not migrated"}, {c.ListenDrops, "dropped"}} {
		if grown.n > 0 {
			text += fmt.Sprintf(", %d %s", grown.n, grown.what)
			whose = " (of the whole machine)"
		}
	}
	return text + whose
}

// ByThemselves are the connections that had ended without having been told to. A client
// that was told, and stayed until its instance was stopped, is among Closed.
func (c *Counts) ByThemselves() int { return max(0, c.Drained-c.ToldToClose) }

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
