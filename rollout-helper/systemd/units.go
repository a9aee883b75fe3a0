package systemd

import (
	"context"
	"encoding/hex"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
)

// List returns the services that match the names or patterns, as far as PID 1
// has them loaded, with no more of each than its name, load state, state and
// job. That is one call, however many there are. To match takes PID 1 as many
// comparisons as there are loaded units and patterns: give it few patterns.
func (m *Manager) List(ctx context.Context, patterns ...string) ([]Unit, error) {
	var list []dbus.UnitStatus
	err := m.call(ctx, func(c *dbus.Conn) (err error) {
		list, err = c.ListUnitsByPatternsContext(ctx, nil, patterns)
		return err
	})
	if err != nil {
		return nil, err
	}
	us := make([]Unit, len(list))
	for i, s := range list {
		us[i] = Unit{Name: s.Name, Load: s.LoadState, Active: s.ActiveState, Sub: s.SubState, Job: s.JobId}
	}
	return us, nil
}

// Units is List with all that a Unit tells. To read that takes PID 1 half a
// millisecond for each unit.
func (m *Manager) Units(ctx context.Context, patterns ...string) ([]Unit, error) {
	us, err := m.List(ctx, patterns...)
	if err != nil {
		return nil, err
	}
	for i := range us {
		if err := m.read(ctx, &us[i]); err != nil {
			return nil, err
		}
	}
	return us, nil
}

// Refresh is Units for those who look again and again. Of a unit that is in the
// state and the run in which it was last read, it returns what was read then. So
// these may be old, for they can change while the state and the run do not:
// Memory, Status and MainPID; Source and WantedBy, if another program has had
// PID 1 read its files anew.
func (m *Manager) Refresh(ctx context.Context, patterns ...string) ([]Unit, error) {
	us, err := m.List(ctx, patterns...)
	if err != nil {
		return nil, err
	}
	for i := range us {
		known, err := m.goesOn(ctx, us[i])
		if err != nil {
			return nil, err
		}
		if known != nil {
			us[i] = *known
		} else if err := m.read(ctx, &us[i]); err != nil {
			return nil, err
		}
	}
	return us, nil
}

// goesOn returns what is known of a unit, if that is still true by the state
// that PID 1 lists and by the unit's run: each start has an id of its own, one
// that systemd does by itself too.
func (m *Manager) goesOn(ctx context.Context, listed Unit) (*Unit, error) {
	known, ok := m.memory.get(listed.Name)
	if !ok || known.Load != listed.Load || known.Active != listed.Active || known.Sub != listed.Sub || known.Job != listed.Job {
		return nil, nil
	}
	run, written := m.written(listed.Name)
	if !written || !known.written {
		err := m.call(ctx, func(c *dbus.Conn) error {
			p, err := c.GetUnitPropertyContext(ctx, listed.Name, "InvocationID")
			if err == nil {
				id, _ := p.Value.Value().([]byte)
				run = hex.EncodeToString(id)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	if run != known.Invocation {
		return nil, nil
	}
	return &known.Unit, nil
}

// runs is the directory in which PID 1 writes down the run of each unit that it
// starts, as the target of a link, so that journald need not ask
// (unit_export_invocation_id in systemd's src/core/unit.c).
const runs = "/run/systemd/units"

// written returns the run of a unit as PID 1 has written it down. To ask PID 1
// would be one call for each unit at each look. But systemd does not promise
// these links: a unit's link is believed only if it named the right run when the
// unit was read. Otherwise PID 1 is asked.
func (m *Manager) written(unit string) (run string, ok bool) {
	run, err := os.Readlink(filepath.Join(m.runs, "invocation:"+unit))
	return run, err == nil
}

// read fills in what List does not tell, and remembers it.
func (m *Manager) read(ctx context.Context, u *Unit) error {
	var values map[string]any
	err := m.call(ctx, func(c *dbus.Conn) (err error) {
		values, err = c.GetAllPropertiesContext(ctx, u.Name)
		return err
	})
	if err != nil {
		return err
	}
	u.fill(values)
	run, written := m.written(u.Name)
	written = written && run == u.Invocation
	if written {
		u.LogFields = m.logFields(u.Name)
	}
	m.memory.put(known{*u, written})
	return nil
}

// fill takes a unit's state from its properties, of the interfaces Unit and
// Service together.
func (u *Unit) fill(values map[string]any) {
	u.Result, _ = values["Result"].(string)
	u.ExitCode, _ = values["ExecMainCode"].(int32)
	u.ExitStatus, _ = values["ExecMainStatus"].(int32)
	u.MainPID, _ = values["MainPID"].(uint32)
	u.Restarts, _ = values["NRestarts"].(uint32)
	u.ControlGroup, _ = values["ControlGroup"].(string)
	u.Status, _ = values["StatusText"].(string)
	u.Source, _ = values["SourcePath"].(string)
	u.Fragment, _ = values["FragmentPath"].(string)
	u.WantedBy, _ = values["WantedBy"].([]string)
	u.KillMode, _ = values["KillMode"].(string)
	u.KillSignal, _ = values["KillSignal"].(int32)
	if memory, _ := values["MemoryCurrent"].(uint64); memory != ^uint64(0) {
		u.Memory = memory
	}
	u.Active, _ = values["ActiveState"].(string)
	u.Sub, _ = values["SubState"].(string)
	u.Condition, _ = values["ConditionResult"].(bool)
	if id, _ := values["InvocationID"].([]byte); len(id) > 0 {
		u.Invocation = hex.EncodeToString(id)
	}
	if us, _ := values["StateChangeTimestamp"].(uint64); us > 0 {
		u.Since = time.UnixMicro(int64(us))
	}
}

// memory is what was read of units, by name.
type memory struct {
	mu    sync.Mutex
	units map[string]known
}

// known is one unit as it was read.
type known struct {
	Unit
	written bool // PID 1 had written the unit's run down
}

func (m *memory) get(name string) (known, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, ok := m.units[name]
	return k, ok
}

func (m *memory) put(k known) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.units == nil {
		m.units = make(map[string]known)
	}
	m.units[k.Name] = k
}

// forget has all units read anew.
func (m *memory) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.units = nil
}
