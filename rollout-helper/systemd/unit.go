package systemd

import "time"

// Unit is a service as PID 1 sees it at one moment.
type Unit struct {
	Name   string
	Load   string // "loaded", "not-found", "bad-setting", …
	Active string // "active", "activating", "deactivating", "failed", "inactive", …
	Sub    string // "running", "auto-restart", "start", …
	Job    uint32 // the job queued or running for it; 0 for none

	Result       string // why it failed: "success", "exit-code", "signal", "timeout", "oom-kill", …
	ExitCode     int32  // si_code of the main process's end, see waitid(2); 0 while it runs
	ExitStatus   int32  // its exit status, or the signal that ended it
	MainPID      uint32
	Restarts     uint32 // automatic restarts since it was started
	ControlGroup string // below the cgroup file system's root; "" when it has none
	Condition    bool   // its conditions held when it was last started
	Invocation   string // of this start, in hex
	Since        time.Time
	Memory       uint64   // bytes; 0 when not accounted
	Status       string   // what it says of itself: the last STATUS= of sd_notify(3)
	Source       string   // SourcePath=: the file that its unit, as it is loaded now, was made from
	Fragment     string   // the file that its unit was loaded from
	WantedBy     []string // the units that would start it
	KillMode     string   // which of its processes get the stop signal: "mixed", "control-group", …
	KillSignal   int32    // the stop signal

	// LogFields are LogExtraFields= as they were when its process was started, by their
	// names. They are nil if PID 1 has not written them down.
	LogFields map[string]string
}

// Live reports whether the unit has processes, or will have some without being
// asked for: it is gone only when it has been stopped.
func (u Unit) Live() bool {
	switch u.Active {
	case "active", "activating", "deactivating", "reloading", "refreshing", "maintenance":
		return true
	}
	return u.Job != 0
}

// Up reports whether the unit runs as it should, and is not being restarted.
func (u Unit) Up() bool { return u.Active == "active" || u.Active == "reloading" }
