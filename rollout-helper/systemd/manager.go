// Package systemd is PID 1 as a rollout needs it: the state of some services, and
// jobs. When a call returns that a job has ended, it has, also if the connection
// was lost meanwhile.
package systemd

import (
	"context"
	"errors"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
)

// Manager speaks with PID 1. It dials again when PID 1 has re-executed itself.
type Manager struct {
	dial func(context.Context) (*dbus.Conn, error)
	runs string // the directory runs, but for tests

	mu   sync.Mutex
	conn *dbus.Conn

	memory  memory
	reloads reloads
}

// Lost is the result of a job whose end was not seen, because PID 1 executed
// itself anew meanwhile. The unit has no job now. Its state tells how it went.
const Lost = "lost"

// lookAgain is how often it is checked that the connection, on which the end of a
// job will be told, is still there.
const lookAgain = 500 * time.Millisecond

// Dial connects to PID 1. As root it uses PID 1's own socket, which needs no bus
// daemon, and waits if PID 1 is executing itself anew. Others go over the system
// bus, and do not wait for it.
func Dial() (*Manager, error) {
	if os.Geteuid() != 0 {
		m := &Manager{dial: dbus.NewSystemConnectionContext, runs: runs}
		_, err := m.connection()
		return m, err
	}
	m := &Manager{dial: single(private), runs: runs}
	return m, m.call(context.Background(), func(*dbus.Conn) error { return nil })
}

// private connects to PID 1's own socket. There is no bus on it, and no Hello.
func private(ctx context.Context) (*godbus.Conn, error) {
	bus, err := godbus.Dial("unix:path=/run/systemd/private", godbus.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	if err := bus.Auth([]godbus.Auth{godbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err != nil {
		bus.Close()
		return nil, err
	}
	return bus, nil
}

// single uses one connection for calls and signals, where the library would make
// two. PID 1 sends every signal on each connection to its own socket, and there
// are some hundreds in a rollout.
func single(bus func(context.Context) (*godbus.Conn, error)) func(context.Context) (*dbus.Conn, error) {
	return func(ctx context.Context) (*dbus.Conn, error) {
		conn, err := bus(ctx)
		if err != nil {
			return nil, err
		}
		return dbus.NewConnection(func() (*godbus.Conn, error) { return conn, nil })
	}
}

// Close ends the connection.
func (m *Manager) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hangUp()
}

// connection returns the connection, and dials if there is none. It belongs to no
// context, for when the run has been cancelled, the way back still needs it.
func (m *Manager) connection() (*dbus.Conn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn != nil && m.conn.Connected() {
		return m.conn, nil
	}
	m.hangUp()
	conn, err := m.dial(context.Background())
	if err != nil {
		return nil, err
	}
	m.conn = conn
	return conn, nil
}

// hangUp ends the connection; the lock is held.
func (m *Manager) hangUp() {
	if m.conn != nil {
		m.conn.Close()
		m.conn = nil
	}
}

// call calls f. If the connection is lost meanwhile, it calls f again with a new
// one, for up to ten seconds: while PID 1 executes itself anew it does not listen.
// An error that PID 1 has answered with is an answer. Any other error means that
// the connection is lost.
func (m *Manager) call(ctx context.Context, f func(*dbus.Conn) error) error {
	deadline := time.Now().Add(10 * time.Second)
	for {
		conn, err := m.connection()
		if err == nil {
			var answer godbus.Error
			if err = f(conn); err == nil || errors.As(err, &answer) {
				return err
			}
			if ctx.Err() != nil {
				return ctx.Err() // others still use the connection
			}
			m.mu.Lock()
			if m.conn == conn {
				m.hangUp()
			}
			m.mu.Unlock()
		}
		if time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Start, Stop and Restart queue a job for a unit and wait for its end. The
// result is the one of systemd's JobRemoved signal ("done", "failed",
// "canceled", "dependency", "assert", …) or Lost. "done" alone proves nothing:
// read the unit's state. An error means that there was no job, or that the
// context ended first.
func (m *Manager) Start(ctx context.Context, name string) (string, error) {
	return m.job(ctx, name, (*dbus.Conn).StartUnitContext)
}

// Stop waits until the unit's processes have ended; see Start.
func (m *Manager) Stop(ctx context.Context, name string) (string, error) {
	return m.job(ctx, name, (*dbus.Conn).StopUnitContext)
}

// Restart stops and starts; see Start.
func (m *Manager) Restart(ctx context.Context, name string) (string, error) {
	return m.job(ctx, name, (*dbus.Conn).RestartUnitContext)
}

type jobCall func(c *dbus.Conn, ctx context.Context, name, mode string, ch chan<- string) (int, error)

func (m *Manager) job(ctx context.Context, name string, queue jobCall) (string, error) {
	// A channel of its own for each job, with room, or an unread one would
	// block all later signals.
	ended := make(chan string, 1)
	var used *dbus.Conn
	err := m.call(ctx, func(c *dbus.Conn) error {
		used = c
		_, err := queue(c, ctx, name, "replace", ended)
		return err
	})
	if err != nil {
		return "", err
	}
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		select {
		case result := <-ended:
			return result, nil
		case <-ctx.Done():
			return "", ctx.Err()
		case <-tick.C:
			if used.Connected() {
				continue
			}
			// The signal will never come. A job that goes on is seen at the unit.
			pending, err := m.pending(ctx, name)
			if err != nil {
				return "", err
			}
			if !pending {
				return Lost, nil
			}
		}
	}
}

func (m *Manager) pending(ctx context.Context, name string) (bool, error) {
	us, err := m.List(ctx, name)
	if err != nil {
		return false, err
	}
	return len(us) > 0 && us[0].Job != 0, nil
}

// noSuchUnit is the name of PID 1's error about a unit that is not loaded:
// BUS_ERROR_NO_SUCH_UNIT in systemd's bus-common-errors.h.
const noSuchUnit = "org.freedesktop.systemd1.NoSuchUnit"

// Masked reports whether an error is PID 1's about a unit that is masked. One that is
// not loaded is in no list, so that only its start tells: BUS_ERROR_UNIT_MASKED.
func Masked(err error) bool {
	var answer godbus.Error
	return errors.As(err, &answer) && answer.Name == "org.freedesktop.systemd1.UnitMasked"
}

// ResetFailed lets systemd forget that a unit failed. A unit that is not
// loaded has nothing to forget.
func (m *Manager) ResetFailed(ctx context.Context, name string) error {
	err := m.call(ctx, func(c *dbus.Conn) error { return c.ResetFailedUnitContext(ctx, name) })
	var answer godbus.Error
	if errors.As(err, &answer) && answer.Name == noSuchUnit {
		return nil
	}
	return err
}

// Reload is `systemctl daemon-reload`. Callers at the same time share one, as
// far as it began after each of them asked.
func (m *Manager) Reload(ctx context.Context) error {
	return m.reloads.do(func() error {
		defer m.memory.forget()
		return m.call(ctx, func(c *dbus.Conn) error { return c.ReloadContext(ctx) })
	})
}

// Stopping says whether the machine is going down.
func (m *Manager) Stopping(ctx context.Context) (bool, error) {
	var state string
	err := m.call(ctx, func(c *dbus.Conn) error {
		p, err := c.SystemStateContext(ctx)
		if err == nil {
			state, _ = p.Value.Value().(string)
		}
		return err
	})
	return state == "stopping", err
}
