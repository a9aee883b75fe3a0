package systemd

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/coreos/go-systemd/v22/dbus"
)

// readers is how many units a Snapshot reads at a time: enough that PID 1, which answers
// one at a time, always has the next one to do.
const readers = 8

// Snapshot is PID 1 for a command that asks about the units of many apps, one app after
// the other. It reads them all when it is first asked about one of them, and answers
// from that. Everything else goes to PID 1.
//
// To list the units of one app takes PID 1 a look at every loaded unit: with n apps,
// that would be n times n.
type Snapshot struct {
	*Manager
	of func(unit string) bool

	once  sync.Once
	units []Unit // in the order of their names
	err   error
}

// Snapshot is for the services of which of is true. It must also be true of a pattern that
// stands for some of them, with a number for the star: shop@1.service for
// shop@*.service.
func (m *Manager) Snapshot(of func(unit string) bool) *Snapshot {
	return &Snapshot{Manager: m, of: of}
}

// Units is Manager.Units, of the moment of the first call.
func (s *Snapshot) Units(ctx context.Context, patterns ...string) ([]Unit, error) {
	for _, p := range patterns {
		if !s.of(strings.ReplaceAll(p, "*", "1")) {
			return s.Manager.Units(ctx, patterns...)
		}
	}
	s.once.Do(func() { s.units, s.err = s.take(ctx) })
	if s.err != nil {
		return nil, s.err
	}
	var us []Unit
	for _, p := range patterns {
		us = append(us, s.matching(p)...)
	}
	return us, nil
}

// matching are the units that match a pattern, of which the part before the first star is
// looked up.
func (s *Snapshot) matching(pattern string) []Unit {
	start, _, star := strings.Cut(pattern, "*")
	at, _ := slices.BinarySearchFunc(s.units, start, func(u Unit, start string) int { return strings.Compare(u.Name, start) })
	var us []Unit
	for _, u := range s.units[at:] {
		if !strings.HasPrefix(u.Name, start) {
			break
		}
		if ok, _ := path.Match(pattern, u.Name); ok {
			us = append(us, u)
		}
		if !star {
			break
		}
	}
	return us
}

// The properties in which units that run as they should differ, by their interfaces.
var (
	unitProperties    = []string{"InvocationID", "StateChangeTimestamp", "SourcePath", "FragmentPath", "WantedBy"}
	serviceProperties = []string{"MainPID", "NRestarts", "ControlGroup", "MemoryCurrent", "KillMode", "KillSignal", "StatusText"}
)

// glance is read for a unit that runs as it should, which says the rest about it. To read
// everything takes PID 1 more than a millisecond, because it then looks whether any file
// of the unit has changed (NeedDaemonReload); each of these takes it some microseconds.
func (s *Snapshot) glance(ctx context.Context, u *Unit) error {
	if u.Load != "loaded" || u.Active != "active" || u.Sub != "running" || u.Job != 0 {
		return s.read(ctx, u)
	}
	values := map[string]any{"ActiveState": u.Active, "SubState": u.Sub, "Result": "success", "ConditionResult": true}
	get := func(names []string, get func(c *dbus.Conn, ctx context.Context, unit, name string) (*dbus.Property, error)) error {
		for _, name := range names {
			err := s.call(ctx, func(c *dbus.Conn) error {
				p, err := get(c, ctx, u.Name, name)
				if err == nil {
					values[name] = p.Value.Value()
				}
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
	err := errors.Join(get(unitProperties, (*dbus.Conn).GetUnitPropertyContext), get(serviceProperties, (*dbus.Conn).GetServicePropertyContext))
	if err != nil {
		return err
	}
	u.fill(values)
	if run, ok := s.written(u.Name); ok && run == u.Invocation {
		u.LogFields = s.logFields(u.Name)
	}
	return nil
}

// take reads the units, several at a time.
func (s *Snapshot) take(ctx context.Context) ([]Unit, error) {
	us, err := s.List(ctx, "*.service")
	if err != nil {
		return nil, err
	}
	us = slices.DeleteFunc(us, func(u Unit) bool { return !s.of(u.Name) })
	errs := make([]error, readers)
	var all sync.WaitGroup
	for first := range readers {
		all.Add(1)
		go func() {
			defer all.Done()
			for i := first; i < len(us) && errs[first] == nil; i += readers {
				errs[first] = s.glance(ctx, &us[i])
			}
		}()
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(us, func(a, b Unit) int { return strings.Compare(a.Name, b.Name) })
	return us, nil
}
