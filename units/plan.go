package units

// Plan is the part of an app's settings that a rollout acts on. It is frozen
// in generation.json, so that an old generation is handled by its own rules.
type Plan struct {
	Mode             int    `json:"mode"`  // 0: one service, 1: instances of a template
	Nodes            int    `json:"nodes"` // instances; 1 in mode 0
	Port             int    `json:"port,omitempty"`
	ReusePort        bool   `json:"reuse_port"` // SO_REUSEPORT is set for the app
	HealthPath       string `json:"health_path,omitempty"`
	HealthHost       string `json:"health_host,omitempty"` // "" means localhost and the port
	ReadySec         int    `json:"ready_sec"`
	WatchSec         int    `json:"watch_sec"`
	DrainSec         int    `json:"drain_sec"`
	LeaveKeepalive   bool   `json:"leave_keepalive,omitempty"` // kept-alive clients are not told to close
	DrainClosed      bool   `json:"drain_closed,omitempty"`    // the drain waits until every connection is gone
	ReleaseSec       int    `json:"release_sec,omitempty"`     // what the release command has; 0: there is none
	Balanced         bool   `json:"balanced,omitempty"`        // new connections go to the instance with the least to do
	TimeoutStopSec   int    `json:"timeout_stop_sec"`
	Type             string `json:"type"` // Type= of the unit
	User             string `json:"user"` // User= of the unit
	WorkingDirectory string `json:"working_directory"`
}

// DefaultPlan is the plan of settings that nobody has set. A field whose default
// is no fixed text, as the user, is empty.
func DefaultPlan() Plan {
	s := &Spec{directives: map[string]string{}}
	for _, set := range settings {
		if set.Default != "" {
			set.apply(s, set.Directive, set.Default)
		}
	}
	return s.Plan
}

// Unit names the unit that a generation is made of: the one service, or the
// template of its instances.
func (p Plan) Unit(app string) string {
	if p.Mode == 0 {
		return Service(app)
	}
	return Template(app)
}

// Instances names the units of a generation that owns the given numbers: in
// mode 0 the one service, which has no number.
func (p Plan) Instances(app string, numbers []int) []string {
	if p.Mode == 0 {
		return []string{Service(app)}
	}
	names := make([]string, len(numbers))
	for i, n := range numbers {
		names[i] = Instance{app, n}.Unit()
	}
	return names
}

// Booted are the instance numbers that the boot starts for a generation: 1..N.
func (p Plan) Booted() []int {
	numbers := make([]int, p.Nodes)
	for i := range numbers {
		numbers[i] = i + 1
	}
	return numbers
}
