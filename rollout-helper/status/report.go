// Package status gathers how apps stand: what runs, what their .env files ask for, and
// how the last rollouts went. It changes nothing. If the user may not see something, it
// does not fail, but says what is hidden.
package status

import (
	"time"

	"app-rollout/units/problem"
	"app-rollout/units/store"
)

// Version is the version of the schema below. It grows when a field changes its meaning
// or is removed. New fields may be added at any time. app-rollout(1), "JSON", describes
// the schema.
const Version = 2

// Report is what `app-rollout status --json` prints. No field ever holds the
// value of a variable.
type Report struct {
	Version int     `json:"version"`
	Machine Machine `json:"machine"`
	Apps    []App   `json:"apps"`
}

// Machine is what concerns all apps.
type Machine struct {
	PortSharing       string `json:"port_sharing"`                  // "on", "off" or "unknown"
	PortSharingWhy    string `json:"port_sharing_reason,omitempty"` // why it is not on
	PortSharingRemedy string `json:"port_sharing_remedy,omitempty"` // what to do about it
	// PortSharingBuild tells whose programs are in force: "current": this version's,
	// "older": another version's, which the next rollout replaces, "none", "unknown".
	PortSharingBuild string            `json:"port_sharing_build"`
	Migrates         bool              `json:"migrates"`                  // net.ipv4.tcp_migrate_req
	MigratesRemedy   string            `json:"migrates_remedy,omitempty"` // what to do if it is off
	Problems         []problem.Problem `json:"problems"`                  // of /etc/app-rollout as a whole
	Hidden           []Unseen          `json:"hidden,omitempty"`
}

// App is one app.
type App struct {
	Name       string      `json:"app"`
	State      string      `json:"state"` // "up", "degraded", "down" or "stopped"
	Mode       int         `json:"mode"`
	Port       int         `json:"port,omitempty"`
	Nodes      int         `json:"nodes"`      // instances that there should be
	Generation *Generation `json:"generation"` // the current one; null if none was ever ready, or it cannot be seen
	Held       bool        `json:"held"`       // rolled back by a person; a run for all leaves it alone
	Asked      Asked       `json:"asked"`
	Last       *Rollout    `json:"last_rollout"`
	UnderWay   *UnderWay   `json:"under_way"` // the run that works on it now
	Instances  []Instance  `json:"instances"`
	// Wrapper is the problem that something keeps the stop signal from the server.
	Wrapper *problem.Problem `json:"wrapper,omitempty"`
	// Shadows are files in the names of the app's units that we have not written, or that
	// somebody has changed since.
	Shadows []problem.Problem `json:"foreign_units,omitempty"`
	Hidden  []Unseen          `json:"hidden,omitempty"`
}

// Unseen is what could not be seen, and why.
type Unseen struct {
	What string `json:"what"`
	problem.Problem
}

func (u Unseen) String() string { return u.What + ": " + u.Problem.Error() }

// Generation is the current one.
type Generation struct {
	Number           int       `json:"generation"`
	Ready            time.Time `json:"ready"` // when it became ready
	User             string    `json:"user,omitempty"`
	WorkingDirectory string    `json:"working_directory,omitempty"`
}

// The states of an .env, compared with the current generation.
const (
	Same     = "same"
	Pending  = "pending"  // the next run rolls it out
	Rejected = "rejected" // it failed before; only a run that names the app, or a run for all, tries it again
	Refused  = "refused"  // the next run refuses it: it cannot take the place of what runs
	Invalid  = "invalid"
	Gone     = "gone" // the next run stops the app
	Hidden   = "hidden"
)

// Asked is what the .env asks for.
type Asked struct {
	State      string            `json:"state"`
	Generation int               `json:"generation,omitempty"` // the rejected one
	Changed    []string          `json:"changed,omitempty"`    // names of variables
	Otherwise  []string          `json:"otherwise,omitempty"`  // what else changed, in words
	Why        []problem.Problem `json:"why,omitempty"`        // of rejected, refused and invalid
}

// Rollout is the newest rollout that has ended.
type Rollout struct {
	Generation int `json:"generation"`
	store.Receipt
}

// UnderWay is a run that has not ended.
type UnderWay struct {
	Service string    `json:"service"`
	Since   time.Time `json:"since"`
	Says    string    `json:"says,omitempty"` // its status text
}

// Instance is one unit of the app.
type Instance struct {
	Unit        string    `json:"unit"`
	Number      int       `json:"instance"`
	Generation  int       `json:"generation,omitempty"` // that its process was started from; 0: not recorded yet
	Active      string    `json:"active"`
	Sub         string    `json:"sub"`
	PID         uint32    `json:"pid,omitempty"`
	Since       time.Time `json:"since"`
	Restarts    uint32    `json:"restarts"`
	Memory      uint64    `json:"memory_bytes,omitempty"`
	Listeners   int       `json:"listeners"`   // on the app's port; without PORT, on any
	Connections int       `json:"connections"` // that it has taken and not closed
	// Share of the app's new connections, in percent, as the kernel spreads them
	// over the listeners; null while a run is under way, which steers them.
	Share *float64 `json:"share_percent"`
}

// Up says that the instance runs as it should.
func (i Instance) Up() bool { return i.Active == "active" || i.Active == "reloading" }
