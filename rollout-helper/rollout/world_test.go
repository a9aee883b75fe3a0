package rollout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/systemd"
	"app-rollout/units"
	"app-rollout/units/store"
)

// world is a machine that a rollout can be tried on: a scripted systemd and a
// scripted kernel over real files below a directory. What an instance does is
// said by BEHAVE in its .env.
type world struct {
	t      *testing.T
	layout units.Layout

	mu        sync.Mutex
	units     map[string]*fakeUnit
	known     map[string]systemd.Unit // what this run has read of the units, see Refresh
	template  map[string]string       // mode 0's service, or the template → what systemd's generators made of it when they ran last
	led       []string                // the units that get new connections; nil: all that listen
	stopping  bool
	boots     int                // how often it was rebooted
	unsteer   string             // why traffic cannot be steered
	balanced  []string           // the units that are balanced
	unbalance string             // why they cannot be
	untell    string             // why clients cannot be told to close
	partly    string             // why some cannot
	untaken   time.Time          // until then the kernel has not taken the programs that tell
	told      [2]int             // how many were, and how many answers could not tell
	prepared  int                // how often what telling needs was begun before the drain
	ended     int                // how often it was ended, but by Release
	strange   bool               // a stranger listens on the app's port
	has       sockets.Work       // the connections that each unit has all the time
	settles   *sockets.Work      // what the kernel tells of the connections at their end
	followed  []string           // the units whose connections are followed to their end
	stops     map[string]stopped // when each unit was told to stop, and how long it got for it; nil: nobody asks
	stopTakes time.Duration      // how long each stop takes
	events    []Event
	calls     []string
	onCall    func(n int, call string) error               // what a call is answered with instead
	check     func()                                       // looks at the world at every call
	used      func() time.Duration                         // the CPU time that each unit has used; nil: it uses none any more
	starts    func(u *fakeUnit) (result string, err error) // what a start job does instead
}

type fakeUnit struct {
	systemd.Unit
	text       string // as systemd has it loaded
	generation int
	behave     string
	started    time.Time
	pending    time.Time // until then it has a connection in hand
	proved     bool      // it has answered when asked, or was ready before
	led        time.Time // since when connections are steered to it; zero: they are not
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, layout: units.Layout{Root: memory(t)}, units: map[string]*fakeUnit{}}
	for _, dir := range []string{units.EtcDir, units.StateDir, units.RunDir, units.UnitDir, units.GeneratorDir, "/srv/shop", "/usr/bin"} {
		if err := os.MkdirAll(w.layout.Path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(w.layout.Path("/usr/bin/shop"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	w.kernel(0)
	return w
}

// memory is a directory that costs no disk: everything that is kept is synced.
func memory(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "rollout")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// copy is a world of its own in the same state: what a killed helper leaves.
func (w *world) copy(t *testing.T) *world {
	w2 := &world{t: t, layout: units.Layout{Root: memory(t)}, units: map[string]*fakeUnit{}}
	if err := copyTree(w.layout.Root, w2.layout.Root); err != nil {
		t.Fatal(err)
	}
	for name, u := range w.units {
		c := *u
		w2.units[name] = &c
	}
	w2.led, w2.unsteer, w2.template, w2.boots = slices.Clone(w.led), w.unsteer, maps.Clone(w.template), w.boots
	return w2
}

// brokenFile says how every instance behaves that is started from now on: something
// below the apps was broken, as by an upgrade.
const brokenFile = "/broken"

// breaks makes it so; "" mends it.
func (w *world) breaks(behave string) {
	path := w.layout.Path(brokenFile)
	err := os.Remove(path)
	if behave != "" {
		err = os.WriteFile(path, []byte(behave), 0o644)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.t.Fatal(err)
	}
}

func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		switch {
		case d.IsDir():
			return os.MkdirAll(target, 0o755)
		case d.Type()&os.ModeSymlink != 0:
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(link, target)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return os.WriteFile(target, data, info.Mode())
	})
}

func (w *world) machine() *Machine {
	w.known = nil
	return &Machine{Layout: w.layout, Systemd: w, Traffic: w, Report: func(e Event) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.events = append(w.events, e)
	}}
}

// env writes the .env of the app shop.
func (w *world) env(lines ...string) {
	w.t.Helper()
	w.portless(append([]string{"PORT=3000"}, lines...)...)
}

// portless does so without a PORT.
func (w *world) portless(lines ...string) {
	w.t.Helper()
	text := "SYSTEMD_CLUSTER_MODE=1\nSYSTEMD_EXEC_START=/usr/bin/shop\nSYSTEMD_USER=shop\n" + strings.Join(lines, "\n") + "\n"
	if err := os.WriteFile(w.layout.Env("shop"), []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// call notes a call and lets the test answer it instead.
func (w *world) call(format string, args ...any) error {
	w.age()
	call := fmt.Sprintf(format, args...)
	w.calls = append(w.calls, call)
	if w.check != nil {
		w.check()
	}
	if w.onCall != nil {
		return w.onCall(len(w.calls)-1, call)
	}
	return nil
}

// age lets time do to the units what their behaviour says.
func (w *world) age() {
	for _, u := range w.units {
		if u.Active != "active" {
			if u.behave == "late" && u.Active == "activating" && time.Since(u.started) > 5*time.Second {
				u.Active, u.Sub = "active", "running"
			}
			continue
		}
		if u.behave == "dies" && time.Since(u.started) > 500*time.Millisecond {
			u.Active, u.Sub, u.Result, u.ExitCode, u.ExitStatus, u.Restarts = "activating", "auto-restart", "exit-code", 1, 3, 1
		}
	}
}

// List tells the state of units, and nothing else.
func (w *world) List(_ context.Context, patterns ...string) ([]systemd.Unit, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	us, err := w.match(patterns)
	for i, u := range us {
		us[i] = systemd.Unit{Name: u.Name, Load: u.Load, Active: u.Active, Sub: u.Sub, Job: u.Job}
	}
	return us, err
}

func (w *world) Units(_ context.Context, patterns ...string) ([]systemd.Unit, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	us, err := w.match(patterns)
	for _, u := range us {
		w.read(u)
	}
	return us, err
}

func (w *world) match(patterns []string) ([]systemd.Unit, error) {
	if err := w.call("units"); err != nil {
		return nil, err
	}
	var us []systemd.Unit
	for _, name := range slices.Sorted(maps.Keys(w.units)) {
		for _, p := range patterns {
			if ok, _ := filepath.Match(p, name); ok {
				us = append(us, w.units[name].Unit)
				break
			}
		}
	}
	return us, nil
}

// read notes what was read of a unit.
func (w *world) read(u systemd.Unit) {
	if w.known == nil {
		w.known = map[string]systemd.Unit{}
	}
	w.known[u.Name] = u
}

// Refresh gives what was read before of a unit that goes on in its state and its
// run, though other things of it have changed.
func (w *world) Refresh(_ context.Context, patterns ...string) ([]systemd.Unit, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	us, err := w.match(patterns)
	for i, u := range us {
		o, known := w.known[u.Name]
		if known && o.Load == u.Load && o.Active == u.Active && o.Sub == u.Sub && o.Job == u.Job && o.Invocation == u.Invocation {
			us[i] = o
		} else {
			w.read(u)
		}
	}
	return us, err
}

var generationOf = regexp.MustCompile(`EnvironmentFile=.*/(?:generations/(\d+)|shop\.generation)/environment`)

var behaviourOf = regexp.MustCompile(`BEHAVE="([a-z-]*)"`)

func (w *world) Start(_ context.Context, name string) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.call("start %s", name); err != nil {
		return "", err
	}
	return w.begin(name)
}

func (w *world) begin(name string) (string, error) {
	u := w.units[name]
	if u == nil {
		u = &fakeUnit{Unit: systemd.Unit{Name: name, Load: "loaded"}}
		if w.load(u); u.text == "" {
			return "", errors.New("Unit " + name + " not found.")
		}
		w.units[name] = u
	}
	if w.starts != nil {
		return w.starts(u)
	}
	if u.Active == "active" {
		return "done", nil // systemctl start of what runs does nothing
	}
	m := generationOf.FindStringSubmatch(u.text)
	if m == nil {
		w.t.Errorf("the unit %s names no environment file of a generation:\n%s", name, u.text)
		return "failed", nil
	}
	u.generation, _ = strconv.Atoi(m[1])
	environment, err := os.ReadFile(filepath.Join(store.Of(w.layout, "shop").Dir(u.generation), "environment"))
	if err != nil {
		w.t.Errorf("%s is started without its environment: %v", name, err)
		return "failed", nil
	}
	if name == units.ReleaseService("shop") {
		return w.release(u, string(environment))
	}
	u.behave, u.proved = "ok", false
	if b := behaviourOf.FindSubmatch(environment); b != nil {
		u.behave = string(b[1])
	}
	if b, err := os.ReadFile(w.layout.Path(brokenFile)); err == nil {
		u.behave = string(b)
	}
	u.started = time.Now()
	u.Invocation = fmt.Sprint(len(w.calls))
	u.LogFields = map[string]string{units.SourceField: u.Source}
	u.Restarts, u.Result, u.ControlGroup, u.Condition = 0, "success", "/system.slice/"+name, true
	u.MainPID, u.KillMode, u.KillSignal = 10, "mixed", 15
	if strings.Contains(u.text, "\nKillMode=control-group\n") {
		u.KillMode = "control-group"
	}
	switch u.behave {
	case "exits":
		u.Active, u.Sub, u.Result, u.ExitCode, u.ExitStatus = "activating", "auto-restart", "exit-code", 1, 3
		u.Restarts = 1
		return "failed", nil
	case "late":
		u.Active, u.Sub = "activating", "start"
		return "done", nil
	}
	u.Active, u.Sub = "active", "running"
	return "done", nil
}

// release runs a release command, as RELEASE in the .env says.
func (w *world) release(u *fakeUnit, environment string) (string, error) {
	u.Source, u.Invocation, u.behave = units.SourcePath("shop", u.generation), fmt.Sprint(len(w.calls)), "deaf" // it listens nowhere
	switch {
	case strings.Contains(environment, `RELEASE="exits"`):
		u.Active, u.Sub, u.Result, u.ExitCode, u.ExitStatus, u.Condition = "failed", "failed", "exit-code", 1, 3, true
		return "failed", nil
	case strings.Contains(environment, `RELEASE="hangs"`):
		u.Active, u.Sub, u.Result = "failed", "failed", "timeout"
		return "failed", nil
	case strings.Contains(environment, `RELEASE="cancelled"`):
		u.Active, u.Sub, u.Result = "inactive", "dead", "success"
		return "canceled", nil
	case strings.Contains(environment, `RELEASE="unseen"`):
		u.Active, u.Sub, u.Result = "active", "exited", "success"
		return systemd.Lost, nil
	}
	u.Active, u.Sub, u.Result = "active", "exited", "success"
	return "done", nil
}

func (w *world) Restart(ctx context.Context, name string) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.call("restart %s", name); err != nil {
		return "", err
	}
	if u := w.units[name]; u != nil {
		u.Active = "inactive"
	}
	return w.begin(name)
}

func (w *world) ResetFailed(_ context.Context, name string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.call("reset-failed %s", name); err != nil {
		return err
	}
	if u := w.units[name]; u != nil && u.Active == "failed" {
		u.Active, u.Sub = "inactive", "dead"
	}
	if u := w.units[name]; u != nil && !u.Live() && u.WantedBy == nil {
		delete(w.units, name)
	}
	return nil
}

func (w *world) Reload(context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.call("reload"); err != nil {
		return err
	}
	w.reload()
	w.known = nil
	return nil
}

func (w *world) Stopping(context.Context) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stopping, w.call("stopping")
}

// running are the live units, each with its generation: "shop@3/2".
func (w *world) running() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.up()
}

func (w *world) up() string {
	var s []string
	for _, name := range slices.Sorted(maps.Keys(w.units)) {
		if u := w.units[name]; u.Live() {
			s = append(s, fmt.Sprintf("%s/%d", strings.TrimSuffix(name, ".service"), u.generation))
		}
	}
	return strings.Join(s, " ")
}

// whole says whether all instances of a generation that has been ready, or is
// current, are up: invariant 1.
func (w *world) whole() bool {
	disk := store.Of(w.layout, "shop")
	up := map[int]int{}
	for name, u := range w.units {
		if u.Active == "active" && name != units.ReleaseService("shop") {
			up[u.generation]++
		}
	}
	for g, n := range up {
		if record, err := disk.Generation(g); err == nil && record.Ready && n >= record.Nodes {
			return true
		}
	}
	return false
}
