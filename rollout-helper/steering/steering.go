package steering

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"app-rollout/rollout-helper/sockets"
)

// Steering steers the connections of one app. Instances are named by their
// control groups, as systemd's ControlGroup= gives them
// (/system.slice/system-shop.slice/shop@3.service). The zero value is ready to
// use, from any goroutine.
type Steering struct {
	mu     sync.Mutex
	groups map[sockets.Group]*group
	paths  map[string]bool // every instance there ever was
	// alone are the listeners, by cookie, that do not share their port, and why
	// they cannot be steered. They need not be: nobody can listen beside them.
	alone map[uint64]*Unavailable
}

// instances are some of the app's instances with their listeners.
type instances struct {
	paths     []string
	listeners map[string][]sockets.Listener
}

// Steer sends every new connection to the serving instances: in each group that
// one of them listens in, to their sockets only. The candidates' sockets there
// are made ready to be asked (Dial) and to serve later.
//
// All groups are prepared before the first is switched. The view says who listens;
// call Steer with a new one at every tick while something is steered, so that the
// sockets of an instance that restarts come in. That costs little as long as
// nothing has changed.
//
// A group that no serving instance listens in is left as it is; so is a listener
// that shares its port with nobody, such as one whose port the kernel chose,
// beside others that do. If Steer fails, what was steered before still is; every
// error is an *Unavailable, and ErrNobody if no serving instance listens at all.
func (s *Steering) Steer(v *sockets.View, serving, candidates []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.steer(v, serving, candidates)
	// A socket may have closed since the view. Look again, but not for ever.
	for deadline := time.Now().Add(200 * time.Millisecond); errors.Is(err, errMoved) && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
		if v, err = sockets.Look(); err == nil {
			err = s.steer(v, serving, candidates)
		}
	}
	if err != nil {
		return unavailable("steering", err)
	}
	return nil
}

// ErrNobody is the error of steering to instances none of which listens.
var ErrNobody = &Unavailable{Reason: "no instance listens on a TCP port"}

// errMoved is wrapped by errors that another look may mend.
var errMoved = errors.New("it may have closed just now")

func (s *Steering) steer(v *sockets.View, serving, candidates []string) error {
	listening := make(map[uint64]bool, len(v.Listeners))
	for _, l := range v.Listeners {
		listening[l.Cookie] = true
	}
	for _, g := range s.groups {
		g.forget(listening)
	}

	servers, err := find(v, serving)
	if err != nil {
		return err
	}
	others, err := find(v, candidates)
	if err != nil {
		return err
	}
	if err := steerable(v, servers); err != nil {
		return err
	}

	changes, err := s.changes(servers, others)
	if err != nil {
		return err
	}
	defer func() {
		for _, c := range changes {
			c.close(s.groups[c.group.id] == c.group)
		}
	}()
	if len(changes) > 0 {
		if s.paths == nil {
			s.paths = make(map[string]bool)
		}
		for _, path := range slices.Concat(serving, candidates) {
			s.paths[path] = true
		}
	}
	prepared, err := s.prepare(changes)
	if err != nil {
		return err
	}
	if len(prepared) == 0 && len(s.groups) == 0 {
		for _, path := range serving {
			for _, l := range servers.listeners[path] {
				if why := s.alone[l.Cookie]; why != nil {
					return why
				}
			}
		}
	}
	return s.apply(prepared)
}

// prepare prepares the changes, and returns those that can be made. A group whose
// listener shares its port with nobody is left out, and noted.
func (s *Steering) prepare(changes []*change) ([]*change, error) {
	var prepared []*change
	for _, c := range changes {
		err := c.prepare()
		if lonely := (*aloneError)(nil); errors.As(err, &lonely) && !c.group.steered() {
			if s.alone == nil {
				s.alone = make(map[uint64]*Unavailable)
			}
			s.alone[lonely.cookie] = lonely.why
			continue
		}
		if err != nil {
			return nil, err
		}
		prepared = append(prepared, c)
	}
	return prepared, nil
}

// find attributes listeners to the instances at paths.
func find(v *sockets.View, paths []string) (instances, error) {
	found := instances{paths: paths, listeners: make(map[string][]sockets.Listener)}
	for _, path := range paths {
		in, err := v.In(path)
		if err != nil {
			return found, unavailable("reading the control groups", err)
		}
		found.listeners[path] = in
	}
	return found, nil
}

// steerable says why these instances cannot be steered.
func steerable(v *sockets.View, servers instances) error {
	some := false
	for _, path := range servers.paths {
		for _, l := range servers.listeners[path] {
			some = true
			if l.MPTCP {
				return &Unavailable{Reason: fmt.Sprintf("the listener on %s uses Multipath TCP", l.Group)}
			}
		}
		if len(servers.listeners[path]) > 0 {
			continue
		}
		elsewhere, err := v.Elsewhere(path)
		if err != nil {
			return unavailable("reading a process's network namespace", err)
		}
		if elsewhere {
			return &Unavailable{Reason: "listener in another network namespace"}
		}
	}
	if !some {
		return ErrNobody
	}
	return nil
}

// change is what one group needs.
type change struct {
	group    *group
	serving  []uint64                      // cookies
	wanted   map[string][]sockets.Listener // to open, by instance
	most     int                           // listeners of one serving instance
	switches bool                          // the serving set changes
	opened   []*sockets.Socket
}

// changes compares what is steered with what should be. New groups are made,
// but not yet noted.
func (s *Steering) changes(servers, others instances) ([]*change, error) {
	byGroup := make(map[sockets.Group]*change)
	for _, path := range servers.paths {
		number := make(map[*change]int)
		for _, l := range servers.listeners[path] {
			if s.alone[l.Cookie] != nil {
				continue
			}
			c := byGroup[l.Group]
			if c == nil {
				c = &change{group: s.groups[l.Group], wanted: make(map[string][]sockets.Listener)}
				byGroup[l.Group] = c
			}
			c.serving = append(c.serving, l.Cookie)
			c.want(path, l)
			number[c]++
			c.most = max(c.most, number[c])
		}
	}
	for _, path := range others.paths {
		for _, l := range others.listeners[path] {
			if c := byGroup[l.Group]; c != nil && !l.MPTCP {
				c.want(path, l)
			}
		}
	}

	var changes []*change
	for _, id := range slices.SortedFunc(maps.Keys(byGroup), sockets.Group.Compare) {
		c := byGroup[id]
		slices.Sort(c.serving)
		c.switches = c.group == nil || !slices.Equal(c.serving, c.group.serving)
		if !c.switches && len(c.wanted) == 0 {
			continue
		}
		if len(c.wanted) == 0 {
			// Any socket will do to attach the program through.
			path, l := anyOf(servers, id)
			c.wanted[path] = []sockets.Listener{l}
		}
		if c.group == nil {
			group, err := newGroup(id, c.most)
			if err != nil {
				for _, made := range changes {
					made.close(s.groups[made.group.id] == made.group)
				}
				return nil, err
			}
			c.group = group
		}
		changes = append(changes, c)
	}
	return changes, nil
}

// anyOf returns a socket in the group, and whose it is.
func anyOf(servers instances, id sockets.Group) (path string, l sockets.Listener) {
	for _, path := range servers.paths {
		for _, l := range servers.listeners[path] {
			if l.Group == id {
				return path, l
			}
		}
	}
	return "", sockets.Listener{}
}

// want notes a socket that has no slot yet.
func (c *change) want(path string, l sockets.Listener) {
	if c.group != nil {
		if _, in := c.group.slots[l.Cookie]; in {
			return
		}
	}
	c.wanted[path] = append(c.wanted[path], l)
}

// prepare opens the new sockets and gives them their slots, and writes the serving
// ones to the list that is not in force.
func (c *change) prepare() error {
	for path, wanted := range c.wanted {
		opened, err := sockets.Open(path, wanted)
		c.opened = append(c.opened, opened...)
		if err != nil {
			return unavailable("taking a listener's file descriptor", err)
		}
		if len(opened) < len(wanted) {
			return fmt.Errorf("a listener on %s is held by no process of %s: %w", c.group.id, path, errMoved)
		}
	}
	if err := c.group.join(c.opened); err != nil {
		return err
	}
	if !c.switches {
		return nil
	}
	return c.group.list(c.serving)
}

// apply switches the groups over, one right after the other. If one refuses,
// those before are put back. A change that switches has opened a socket.
func (s *Steering) apply(changes []*change) error {
	changes = slices.DeleteFunc(changes, func(c *change) bool { return !c.switches })
	for _, c := range changes {
		// The program may have been taken off, or replaced by the app's own: what is
		// in force then would not change.
		if err := attach(c.opened[0], c.group.ArPick); err != nil {
			return err
		}
	}
	for i, c := range changes {
		if err := c.group.flip(); err != nil {
			for _, done := range changes[:i] {
				_ = done.group.flip()
			}
			return err
		}
	}
	for _, c := range changes {
		c.group.use(c.serving)
		if s.groups == nil {
			s.groups = make(map[sockets.Group]*group)
		}
		s.groups[c.group.id] = c.group
	}
	return nil
}

// close lets go what is needed no more; the group too, if it is not kept.
func (c *change) close(kept bool) {
	if !kept {
		for _, socket := range c.opened {
			_ = detach(socket.FD())
		}
		c.group.close()
	}
	sockets.Close(c.opened)
}

// Groups returns the groups that are steered, in order.
func (s *Steering) Groups() []sockets.Group {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Keys(s.groups), sockets.Group.Compare)
}

// Detach ends the steering: from now on the kernel spreads connections over all
// sockets again. The Steering can be used again.
func (s *Steering) Detach() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := Detach(slices.Sorted(maps.Keys(s.paths))...)
	for _, g := range s.groups {
		// The kernel would let the sockets out of the map some time after this.
		for _, slot := range g.slots {
			_ = g.ArListeners.Delete(slot.index)
		}
		g.close()
	}
	s.groups, s.paths, s.alone = nil, nil, nil
	return err
}

// Detach takes any steering program off the groups that the instances in the
// control groups at paths listen in, whoever left it there. A group that has none
// is no error; nor is an instance that is gone: if it was the last, the program
// went with its sockets.
func Detach(paths ...string) error {
	v, err := sockets.Look()
	if err != nil {
		return fmt.Errorf("listing the listeners: %w", err)
	}
	done := make(map[sockets.Group]bool)
	var failed []error
	for _, path := range paths {
		listeners, err := v.In(path)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		listeners = slices.DeleteFunc(listeners, func(l sockets.Listener) bool { return done[l.Group] })
		opened, err := sockets.Open(path, listeners)
		if denied(err) {
			continue // whoever may not do this has steered nothing
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("taking a listener's file descriptor: %w", err))
			continue
		}
		for _, socket := range opened {
			if done[socket.Group] {
				continue
			}
			if err := detach(socket.FD()); err != nil {
				failed = append(failed, fmt.Errorf("detaching the steering program of %s: %w", socket.Group, err))
				continue
			}
			done[socket.Group] = true
		}
		sockets.Close(opened)
	}
	return errors.Join(failed...)
}
