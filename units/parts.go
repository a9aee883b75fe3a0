package units

import "strings"

// What keeps instances from sharing their port.
const (
	PortsService = "app-rollout-ports.service"
	bpfMount     = `run-app\x2drollout\x2dbpf.mount`

	unshared = "instances cannot share their port, unless the app sets SO_REUSEPORT itself"
)

// parts are this package's own units, and what happens when one is masked.
var parts = []struct{ unit, effect string }{
	{"app-rollout.service", "nothing rolls out all apps"},
	{"app-rollout@.service", "no app can be rolled out by its name"},
	{"app-rollout-boot.service", "after a boot nothing is recorded, and nothing that is pending is rolled out"},
	{"app-rollout-recover.service", "what a killed run has left is put right only by the next one"},
	{"app-rollout-recover@.service", "what a killed run has left is put right only by the next one"},
	{"app-rollout-rollback@.service", "no app can be rolled back"},
	{"app-rollout-restart@.service", "no app can be restarted without loss"},
	{PortsService, unshared},
	{bpfMount, unshared},
	{Slice, "no instance can be started that shares its port"},
}

// MaskedParts are those of this package's own units that are masked.
func (l Layout) MaskedParts() (all []*Problem) {
	for _, p := range parts {
		if masked := l.mask(p.unit, p.effect); masked != nil {
			all = append(all, masked)
		}
	}
	return all
}

// MaskedService is the problem that a service of this package is masked, by its own name or
// by that of its template; nil if it is not.
func (l Layout) MaskedService(service string) *Problem {
	names := []string{service}
	if name, instance, ok := strings.Cut(service, "@"); ok && instance != ".service" {
		names = append(names, name+"@.service")
	}
	for _, name := range names {
		if p := l.mask(name, service+" cannot be started"); p != nil {
			return p
		}
	}
	return nil
}

// Unshared says what keeps instances from sharing their port, nil if nothing is masked
// that they need for it.
func (l Layout) Unshared() *Problem {
	if p := l.mask(PortsService, unshared); p != nil {
		return p
	}
	return l.mask(bpfMount, unshared)
}

// mask is the problem that a unit is masked, nil if it is not.
func (l Layout) mask(unit, effect string) *Problem {
	for _, dir := range adminDirs {
		if s := (Shadow{Unit: unit, Path: dir + "/" + unit}); l.masked(s.Path) {
			return &Problem{Path: s.Path, Text: "masks " + unit + ": " + effect, Remedy: unmask(s)}
		}
	}
	return nil
}
