package rollout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/systemd"
	"app-rollout/units"
	"app-rollout/units/problem"
	"app-rollout/units/store"
)

// A port belongs to the app that has been ready on it, whoever owns the .env files, and
// whether or not the app runs at the moment. What belongs to another app is refused: a
// PORT before anything is started, and what an instance binds beside it as soon as it is
// seen.
//
// For a PORT only the number counts. At which address an app will listen is not known
// before it runs, and then it is too late: apps of one user share a port, so a part of
// the connections would already go astray. What was bound beside the PORT may have the
// number of another app's port if the addresses do not overlap.

// holder is the app that a port belongs to, if that is another one than app: one whose
// current generation has the port as its PORT, or listened on it when it became ready. An
// app whose .env is gone has no ports, for a person has stopped it. holder is "" if the
// port belongs to no other app.
func (m *Machine) holder(app string, port int) string {
	for _, other := range m.portOwners()[port] {
		if other != app {
			return other
		}
	}
	return ""
}

// portOwners are the apps that the ports belong to, in the order of their names. A command
// that looks at all apps in one moment reads them once: else, with n apps, each of which is
// new, n times n records would be read.
func (m *Machine) portOwners() map[int][]string {
	if !m.Layout.OneMoment() {
		return m.readOwners()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.owners == nil {
		m.owners = m.readOwners()
	}
	return m.owners
}

func (m *Machine) readOwners() map[int][]string {
	owners := make(map[int][]string)
	stored, err := store.Apps(m.Layout)
	if err != nil {
		return owners // no app has been ready yet
	}
	for _, app := range stored {
		if !m.asked(app) {
			continue
		}
		// What is wrong with another app's store, that app's own run says.
		g, err := store.Of(m.Layout, app).Current()
		if err != nil || g == nil {
			continue
		}
		for _, port := range append(slices.Clone(g.Ports), g.Port) {
			if port != 0 && !slices.Contains(owners[port], app) {
				owners[port] = append(owners[port], app)
			}
		}
	}
	return owners
}

// hasPort reports whether a generation, which may be nil, has been ready on a port.
func hasPort(g *store.Generation, port int) bool {
	return g != nil && (g.Port == port || slices.Contains(g.Ports, port))
}

// newPort reports whether the app is to get a PORT that it has not been ready on.
func (s situation) newPort(to units.Plan) bool {
	return to.Port != 0 && !hasPort(s.current, to.Port)
}

// notItsPort is the refusal of a PORT, since it is another app's: the holder's.
func notItsPort(app, holder, text, again string) *RunError {
	refusal := told(text, fmt.Sprintf("give %s another PORT, then: %s", app, again))
	refusal.holder = holder
	return refusal
}

// NotItsPort reports whether an error is the refusal of a PORT, since it is another app's.
func NotItsPort(err error) bool {
	var refusal *RunError
	return errors.As(err, &refusal) && refusal.holder != ""
}

// claim keeps a port for an app while the app is rolled out on it for the first time. So
// two new apps are never started on one port at the same time. Release ends the claim, and
// so does the end of this process: see flock(2). If another app has claimed the port, that
// is the taker. Where no claim can be made, as when somebody has removed the directory in
// /run, it is done without.
func (m *Machine) claim(app string, port int) (release func(), taker string) {
	dir := m.Layout.Path(units.RunDir + "/.ports") // no app can have this name
	_ = os.MkdirAll(dir, 0o700)
	f, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(port)), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return func() {}, ""
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		defer f.Close()
		if name, err := io.ReadAll(f); err == nil && len(name) > 0 {
			return nil, string(name)
		}
		return nil, "another app" // which has not written its name yet
	}
	_ = f.Truncate(0) // without its name it is a claim all the same
	_, _ = f.WriteAt([]byte(app), 0)
	return func() {
		_ = f.Truncate(0) // else the next claim would have this name for a moment
		f.Close()
	}, ""
}

// admit refuses a plan that cannot have what it asks for, and else claims its port, if
// that is new. It looks before the claim, so that an app that is refused never seems to
// take a port that it will not get; and once more behind it, since the port may have
// become another app's in between.
func (m *Machine) admit(s situation, to units.Plan, again string) (release func(), refusal *RunError) {
	if refusal := s.refusal(to, again); refusal != nil {
		return nil, refusal
	}
	if !s.newPort(to) {
		return func() {}, nil
	}
	release, taker := m.claim(s.app, to.Port)
	if taker != "" {
		return nil, notItsPort(s.app, taker, fmt.Sprintf("port %d is being taken by %s", to.Port, taker), again)
	}
	if refusal := s.refusal(to, again); refusal != nil {
		release()
		return nil, refusal
	}
	return release, nil
}

// newcomer is an app that was never ready and asks for a port.
type newcomer struct {
	app, path, digest string
	port              int
	failed            bool // what it asks for has failed before
}

// newcomers are those apps, as they were when this process first asked for them: those
// that have not failed before, then the others, both in the order of their names.
func (m *Machine) newcomers() []newcomer {
	m.mu.Lock()
	if m.firsts == nil {
		m.firsts = sync.OnceValue(func() (all []newcomer) {
			apps, _, _ := m.Apps() // what is wrong with them, their own runs say
			for _, app := range apps {
				if g, err := store.Of(m.Layout, app).Current(); err != nil || g != nil {
					continue
				}
				if spec, err := m.Layout.Read(app); err == nil && spec.Plan.Port != 0 {
					digest := spec.Digest()
					all = append(all, newcomer{app, spec.Source.Path, digest, spec.Plan.Port, m.rejected(app, digest) != nil})
				}
			}
			slices.SortStableFunc(all, func(a, b newcomer) int {
				switch {
				case a.failed == b.failed:
					return 0
				case b.failed:
					return -1
				}
				return 1
			})
			return all
		})
	}
	firsts := m.firsts
	m.mu.Unlock()
	return firsts()
}

// yields refuses a new app in a run for all if another new app that comes before it asks
// for the same port. So it does not depend on which of them is quicker, nor on how they
// fare in this run.
func (m *Machine) yields(app string) error {
	all := m.newcomers()
	at := slices.IndexFunc(all, func(n newcomer) bool { return n.app == app })
	if at < 0 {
		return nil
	}
	mine := all[at]
	for _, first := range all[:at] {
		if first.port != mine.port {
			continue
		}
		if g, err := store.Of(m.Layout, first.app).Current(); err != nil || g != nil {
			continue // if it has become ready, holder tells
		}
		if m.holder(app, first.port) != "" {
			return nil // so does it of a third one
		}
		why := "comes first by its name"
		if mine.failed && !first.failed {
			why = "has not failed before"
		}
		refusal := notItsPort(app, first.app, fmt.Sprintf("port %d goes to %s, which is new too and %s", first.port, first.app, why), m.again(app))
		refusal.Path = mine.path
		m.noteFailed(app, mine.digest)
		return refusal
	}
	return nil
}

// checkPorts fails if a new instance listens on a port that belongs to another app,
// unless their addresses do not overlap.
func (r *rollout) checkPorts(v *sockets.View, fresh []systemd.Unit) error {
	for _, u := range fresh {
		own, err := v.Groups(u.ControlGroup)
		if err != nil {
			return err
		}
		for _, g := range own {
			port := int(g.Addr.Port())
			// At boot what is new to this run has been ready before.
			if slices.Contains(r.groups, g) || hasPort(r.old, port) || r.new.Ready && hasPort(r.new, port) {
				continue
			}
			other, known := r.holders[port]
			if !known {
				if other = r.holder(r.app, port); r.holders == nil {
					r.holders = make(map[int]string)
				}
				r.holders[port] = other
			}
			if other != "" && r.meets(v, g, other) {
				return &RunError{Unit: u.Name, Problem: problem.Problem{
					Text:   fmt.Sprintf("%s listens on %s, but port %d belongs to %s", u.Name, g, port, other),
					Remedy: fmt.Sprintf("let it listen on another one, then: %s", r.again()),
				}}
			}
		}
	}
	return nil
}

// meets reports whether a group overlaps with one that the other app listens in. If that
// app listens nowhere on the port now, its address is not known, and all of the port is
// its own.
func (r *rollout) meets(v *sockets.View, g sockets.Group, other string) bool {
	there := false
	for _, l := range v.Listeners {
		if l.Addr.Port() != g.Addr.Port() {
			continue
		}
		if i, ok := units.ParseInstance(r.Traffic.Owner(l.Cgroup)); ok && i.App == other {
			if there = true; l.Group.Overlaps(g) {
				return true
			}
		}
	}
	return !there
}

// bound are the ports that the candidate listens on, as far as they are kept. They are
// recorded so that no other app is started on them, even while this one does not run.
func (r *rollout) bound(ctx context.Context) []int {
	l, err := r.glance(ctx, r.candidate()...)
	if err != nil {
		return nil // then the PORT alone is known
	}
	first, last := sockets.ClientPorts()
	return kept(portsOf(l.view, l.of(r.candidate())), r.new.Port, int(first), int(last))
}

// mostPorts is how many ports of a generation are recorded. An app that binds thousands
// does not get them for ever.
const mostPorts = 16

// kept are the first mostPorts of the ports, without those from first to last, which the
// kernel has chosen, unless it is the app's own.
func kept(ports []int, own, first, last int) []int {
	ports = slices.DeleteFunc(ports, func(port int) bool { return port >= first && port <= last && port != own })
	return ports[:min(len(ports), mostPorts)]
}

// portsOf are the ports that units listen on, each once and in order.
func portsOf(v *sockets.View, us []systemd.Unit) (ports []int) {
	for _, u := range us {
		own, err := v.Groups(u.ControlGroup)
		if err != nil {
			continue // it has just ended
		}
		for _, g := range own {
			ports = append(ports, int(g.Addr.Port()))
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}
