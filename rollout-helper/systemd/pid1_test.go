package systemd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
)

// pid1 is as much of systemd as the tests need, on a D-Bus of its own.
type pid1 struct {
	t *testing.T

	mu    sync.Mutex
	down  bool // it does not listen
	conns []*godbus.Conn
	job   uint32   // of the only unit
	run   []byte   // its InvocationID
	runs  bool     // it is active, and not just starting
	asked []string // the methods that were called
	hear  func(method string)
}

const unitPath = godbus.ObjectPath("/org/freedesktop/systemd1/unit/shop_403_2eservice")

// dial is a new connection.
func (p *pid1) dial(ctx context.Context) (*dbus.Conn, error) {
	return single(func(context.Context) (*godbus.Conn, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.down {
			return nil, errors.New("connection refused")
		}
		here, there := net.Pipe()
		server, err := authorized(there)
		if err != nil {
			return nil, err
		}
		for path, names := range map[godbus.ObjectPath][]string{
			"/org/freedesktop/DBus":     {"org.freedesktop.DBus"},
			"/org/freedesktop/systemd1": {"org.freedesktop.systemd1.Manager", "org.freedesktop.DBus.Properties"},
			unitPath:                    {"org.freedesktop.DBus.Properties"},
		} {
			for _, name := range names {
				if err := server.Export(p, path, name); err != nil {
					return nil, err
				}
			}
		}
		p.conns = append(p.conns, server)
		return authorized(here)
	})(ctx)
}

// authorized is one end of a connection both ends of which think that they have
// been let in.
func authorized(pipe net.Conn) (*godbus.Conn, error) {
	conn, err := godbus.NewConn(&door{Conn: pipe, answers: bytes.NewBufferString("REJECTED EXTERNAL\r\nOK 0123456789abcdef0123456789abcdef\r\n")})
	if err != nil {
		return nil, err
	}
	return conn, conn.Auth([]godbus.Auth{godbus.AuthExternal("0")})
}

type door struct {
	net.Conn
	answers *bytes.Buffer
	open    bool
}

func (d *door) Read(b []byte) (int, error) {
	if !d.open {
		// One line at a time, or what follows would be read with it.
		line, err := d.answers.ReadBytes('\n')
		if err != nil {
			return 0, io.ErrUnexpectedEOF
		}
		return copy(b, line), nil
	}
	return d.Conn.Read(b)
}

func (d *door) Write(b []byte) (int, error) {
	if !d.open {
		d.open = bytes.HasPrefix(b, []byte("BEGIN"))
		return len(b), nil
	}
	return d.Conn.Write(b)
}

// gone closes all connections, as a daemon-reexec does.
func (p *pid1) gone(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns, p.down = nil, down
}

func (p *pid1) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

func (p *pid1) heard(method string) {
	p.mu.Lock()
	p.asked = append(p.asked, method)
	hear := p.hear
	p.mu.Unlock()
	if hear != nil {
		hear(method)
	}
}

// removed tells all that a job has ended.
func (p *pid1) removed(result string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.job = 0
	for _, c := range p.conns {
		if err := c.Emit("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager.JobRemoved",
			uint32(7), godbus.ObjectPath("/org/freedesktop/systemd1/job/7"), "shop@3.service", result); err != nil {
			p.t.Log(err)
		}
	}
}

// The methods that are exported; the names are D-Bus's.

func (p *pid1) AddMatch(string) *godbus.Error { return nil }

func (p *pid1) StartUnit(_, _ string) (godbus.ObjectPath, *godbus.Error) {
	p.set(func() { p.job = 7 })
	p.heard("StartUnit")
	return "/org/freedesktop/systemd1/job/7", nil
}

func (p *pid1) ResetFailedUnit(string) *godbus.Error {
	p.heard("ResetFailedUnit")
	return godbus.NewError("org.freedesktop.systemd1.NoSuchUnit", []any{"Unit shop@3.service not loaded."})
}

func (p *pid1) Reload() *godbus.Error {
	p.heard("Reload")
	return nil
}

type unitStatus struct {
	Name, Description, Load, Active, Sub, Followed string
	Path                                           godbus.ObjectPath
	Job                                            uint32
	JobType                                        string
	JobPath                                        godbus.ObjectPath
}

func (p *pid1) ListUnitsByPatterns(_, _ []string) ([]unitStatus, *godbus.Error) {
	p.heard("ListUnitsByPatterns")
	p.mu.Lock()
	defer p.mu.Unlock()
	active, sub := "activating", "start"
	if p.runs {
		active, sub = "active", "running"
	}
	return []unitStatus{{"shop@3.service", "", "loaded", active, sub, "", unitPath, p.job, "", "/"}}, nil
}

func (p *pid1) GetAll(string) (map[string]godbus.Variant, *godbus.Error) {
	p.heard("GetAll")
	p.mu.Lock()
	defer p.mu.Unlock()
	return map[string]godbus.Variant{
		"ActiveState":   godbus.MakeVariant("activating"),
		"SubState":      godbus.MakeVariant("start"),
		"MemoryCurrent": godbus.MakeVariant(^uint64(0)),
		"InvocationID":  godbus.MakeVariant(p.run),
	}, nil
}

func (p *pid1) Get(_, name string) (godbus.Variant, *godbus.Error) {
	p.heard("Get " + name)
	switch name {
	case "InvocationID":
		p.mu.Lock()
		defer p.mu.Unlock()
		return godbus.MakeVariant(p.run), nil
	case "MainPID":
		return godbus.MakeVariant(uint32(77)), nil
	case "ControlGroup", "SourcePath", "FragmentPath", "KillMode", "StatusText":
		return godbus.MakeVariant("the " + name), nil
	}
	return godbus.MakeVariant("stopping"), nil
}
