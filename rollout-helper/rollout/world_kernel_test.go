package rollout

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"app-rollout/rollout-helper/closing"
	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/steering"
	"app-rollout/rollout-helper/systemd"
	"app-rollout/units"
)

func id(name string) uint64 {
	n := uint64(7)
	for _, c := range []byte(name) {
		n = n*31 + uint64(c)
	}
	return n
}

func (w *world) Look() (*sockets.View, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.call("look"); err != nil {
		return nil, err
	}
	var ls []sockets.Listener
	for name, u := range w.units {
		if u.Active != "active" || u.behave == "deaf" || u.behave == "unix" ||
			u.behave == "boots" && time.Since(u.started) < 400*time.Millisecond ||
			u.behave == "closes" && time.Since(u.started) > 500*time.Millisecond ||
			u.behave == "closes-late" && time.Since(u.started) > 3010*time.Millisecond {
			continue
		}
		address := "0.0.0.0:3000"
		switch u.behave {
		case "beside":
			address = "127.0.0.1:3000"
		case "elsewhere":
			address = "0.0.0.0:4000"
		case "six":
			address = "[::1]:4000"
		}
		ls = append(ls, sockets.Listener{Group: sockets.Group{Addr: netip.MustParseAddrPort(address)}, Cgroup: id(name), Queued: w.queued(name)})
	}
	if w.strange {
		ls = append(ls, sockets.Listener{Group: sockets.Group{Addr: netip.MustParseAddrPort("0.0.0.0:3000")}, Cgroup: 1})
	}
	tree := func(path string) (map[uint64]bool, error) { return map[uint64]bool{id(filepath.Base(path)): true}, nil }
	elsewhere := func(string) (bool, error) { return false, nil }
	return sockets.NewView(ls, tree, elsewhere), nil
}

func (w *world) Owner(cgroup uint64) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name := range w.units {
		if id(name) == cgroup {
			return name
		}
	}
	return "stranger.service"
}

func (w *world) Steer(_ string, _ *sockets.View, serving, asked []systemd.Unit) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var names []string
	for _, u := range serving {
		names = append(names, u.Name)
	}
	if err := w.call("steer %s", list(names)); err != nil {
		return err
	}
	if w.unsteer != "" {
		return &steering.Unavailable{Reason: w.unsteer}
	}
	if !slices.Equal(w.led, names) {
		for _, u := range w.units {
			if u.Active == "active" && !slices.Contains(names, u.Name) && slices.Contains(w.led, u.Name) && u.behave != "dies" && !strings.HasPrefix(u.behave, "stalls") {
				u.pending = time.Now().Add(300 * time.Millisecond)
			}
		}
	}
	w.led = names
	return nil
}

// Balance notes nothing of an app that is not balanced.
func (w *world) Balance(_ string, us []systemd.Unit, least bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !least {
		w.balanced = nil
		return nil
	}
	var names []string
	for _, u := range us {
		if u.Up() {
			names = append(names, u.Name)
		}
	}
	if err := w.call("balance %s", list(names)); err != nil {
		return err
	}
	if w.unbalance != "" {
		return &steering.Unavailable{Reason: w.unbalance}
	}
	w.balanced = names
	return nil
}

func (w *world) Ask(_ context.Context, _ string, _ *sockets.View, u systemd.Unit, _ []sockets.Group, _ units.Plan) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.call("ask %s", u.Name); err != nil {
		return err
	}
	f := w.units[u.Name]
	switch {
	case f.behave == "mute",
		f.behave == "warms" && time.Since(f.started) < 2*time.Second,
		f.behave == "sours" && time.Since(f.started) > 500*time.Millisecond:
		return errors.New("answers GET / with status 500")
	case f.behave == "loads":
		return errors.New("listens on 0.0.0.0:3000, but has not accepted the connection that was made to it")
	case f.behave == "answered-by-another" && f.Active == "active" && !f.proved:
		// It ends while it is asked, and the kernel gives its queue to another one.
		f.Active, f.Sub, f.Result, f.ExitCode, f.ExitStatus, f.Restarts = "activating", "auto-restart", "exit-code", 1, 3, 1
	}
	f.proved = true
	return nil
}

// queued is how many clients wait for a unit: they come only to one that connections
// are steered to.
func (w *world) queued(name string) uint32 {
	u := w.units[name]
	if !slices.Contains(w.led, name) {
		if u.behave == "stalls" && !u.led.IsZero() {
			return 3 // who waits goes on waiting
		}
		u.led = time.Time{}
		return 0
	}
	if u.led.IsZero() {
		u.led = time.Now()
	}
	led := time.Since(u.led)
	switch u.behave {
	case "stalls", "busy", "slow":
		return 3
	case "stalls-late":
		if led > 2500*time.Millisecond { // less than a second before the end of the watch
			return 1
		}
	case "blocks": // it has answered before that
		if led > 300*time.Millisecond && led < 600*time.Millisecond || led > 1700*time.Millisecond {
			return 1
		}
	case "pauses": // each time for less than a second, and at the end of the watch
		if led%(1100*time.Millisecond) > 500*time.Millisecond {
			return 1
		}
	}
	return 0
}

// Waiting: who stalls, keeps the same client waiting.
func (w *world) Waiting(_ *sockets.View, u systemd.Unit) (waiting []uint64, accepted bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.call("waiting %s", u.Name); err != nil {
		return nil, false, err
	}
	switch f := w.units[u.Name]; f.behave {
	case "busy":
		return nil, true, nil
	case "slow":
		// One after the other, and each is answered at once.
		n := uint64(time.Since(f.led) / (300 * time.Millisecond))
		return []uint64{n, n + 1}, false, nil
	}
	return []uint64{7, uint64(time.Now().UnixNano())}, false, nil
}

func (w *world) Release(string, []systemd.Unit) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.call("release"); err != nil {
		return err
	}
	w.led, w.balanced = nil, nil
	return nil
}

func (w *world) Pending(_ string, _ *sockets.View, us []systemd.Unit) (all sockets.Work, each []sockets.Work, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.call("pending"); err != nil {
		return all, nil, err
	}
	for _, u := range us {
		work := w.has
		if slices.Contains(w.followed, u.Name) {
			work = sockets.Work{}
		} else if f := w.units[u.Name]; f != nil && f.pending.After(time.Now()) {
			work.Owed++
		}
		all = all.Plus(work)
		work.HalfOpen = 0 // nobody knows whose they are
		each = append(each, work)
	}
	return all, each, nil
}

func (w *world) Follow(_ string, units ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.followed = append(w.followed, units...)
}

func (w *world) Settle(string) (sockets.Work, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.settles == nil {
		return sockets.Work{}, false
	}
	return *w.settles, true
}

func (w *world) Paths(us []systemd.Unit) ([][]sockets.Path, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make([][]sockets.Path, len(us))
	for i, u := range us {
		if f := w.units[u.Name]; f != nil && f.behave == "unix" {
			all[i] = []sockets.Path{{Name: "/run/shop.sock", Inode: uint32(id(u.Name))}}
		}
	}
	return all, nil
}

// Wrapped says that a server which BEHAVE calls wrapped has a shell before it.
func (w *world) Wrapped(_ *sockets.View, u systemd.Unit, _ int) (*sockets.Wrapper, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if f := w.units[u.Name]; f == nil || f.behave != "wrapped" {
		return nil, nil
	}
	return &sockets.Wrapper{Name: "sh", Server: "node"}, nil
}

func (w *world) Used(systemd.Unit) time.Duration {
	if w.used == nil {
		return time.Second
	}
	return w.used()
}

func (w *world) PrepareTell(string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.prepared++
}

func (w *world) Tell(_ string, us []systemd.Unit) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var names []string
	for _, u := range us {
		names = append(names, u.Name)
	}
	if err := w.call("tell %s", list(names)); err != nil {
		return err
	}
	if w.untell != "" {
		return &steering.Unavailable{Reason: w.untell}
	}
	if time.Now().Before(w.untaken) {
		return closing.ErrLate
	}
	if w.partly != "" {
		return &closing.Partial{Wrong: []error{errors.New(w.partly)}}
	}
	return nil
}

func (w *world) EndTell(string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended++
	return nil
}

func (w *world) Told(string) (told, untold int) { return w.told[0], w.told[1] }

func (w *world) Migrates() bool { return true }

func (w *world) Counters() sockets.Counters { return sockets.Counters{} }

// misled says whether a unit gets connections that has not been found ready,
// while a ready generation is there: invariant 2.
func (w *world) misled() bool {
	if w.led != nil || w.unsteer != "" {
		return false
	}
	generations := map[int]bool{}
	for _, u := range w.units {
		if u.Active == "active" && u.behave != "deaf" && u.behave != "elsewhere" {
			generations[u.generation] = true
		}
	}
	return len(generations) > 1
}
