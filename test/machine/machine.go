// Package machine boots throw-away Debians with their own systemd as PID 1,
// for the stories and the demo: containers of systemd-nspawn, each on an
// overlay over an image that is built once.
//
// It needs root, cgroup v2 (beside v1 will do) and overlayfs. The host needs
// no systemd of its own. Nothing outlives the process that booted a machine.
package machine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// T is what a machine needs of a *testing.T. The demo has an implementation of its own.
// Fatalf and Skipf do not return.
type T interface {
	Helper()
	Name() string
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
	Failed() bool
	Cleanup(func())
}

// Options say what kind of machine to boot.
type Options struct {
	Release  string   // "bookworm" (which "" means too) or "trixie"
	Packages []string // of Debian, beyond Base
	Layers   []string // directories laid over the image's root, see Apps, Node, Bun
	Install  bool     // install the built .deb before Boot returns

	// Files are written into the root before the first boot: absolute path → text.
	// Root owns them, and their mode is 0644.
	Files map[string]string
}

// Machine is one booted Debian. Its methods are for one goroutine, except Run, Try,
// Wait, Load and Read, which any number may use.
type Machine struct {
	Name     string
	BootTook time.Duration // the last boot, until systemd was up

	t    T
	opts Options
	dir  string // of this machine: overlay, console log, lock
	root string // where the overlay is mounted
	lock *os.File

	boots  int
	mu     sync.Mutex
	nspawn *nspawn // nil while the power is off
}

// bootDeadline is how long a boot may take; it takes half a second.
const bootDeadline = 90 * time.Second

// Boot builds the image if need be, boots a machine from it, and returns when its
// systemd says that it is up. The machine is removed when the test ends. If the test
// has failed, Boot's cleanup first logs the end of the machine's journal.
func Boot(t T, o Options) *Machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skipf("a machine needs root: sudo make test")
	}
	if o.Release == "" {
		o.Release = "bookworm"
	}
	image, err := buildImage(o.Release, o.Packages, t.Logf)
	if err != nil {
		t.Fatalf("image %s: %v", o.Release, err)
	}
	m := &Machine{t: t, opts: o}
	t.Cleanup(m.destroy)
	if err := m.create(image); err != nil {
		t.Fatalf("machine: %v", err)
	}
	for path, text := range o.Files {
		m.Write(path, text, 0o644)
	}
	m.PowerOn()
	if o.Install {
		m.Install(Deb(t))
	}
	return m
}

// PowerOn boots the machine: the first time, or after PowerOff or Kill.
func (m *Machine) PowerOn() {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bootDeadline)
	defer cancel()
	m.boots++
	start := time.Now()
	n, err := startNspawn(fmt.Sprintf("%s.%d", m.Name, m.boots), m.root, filepath.Join(m.dir, "console.log"))
	if err != nil {
		m.t.Fatalf("machine: systemd-nspawn: %v", err)
	}
	m.set(n)
	if err := n.waitLeader(ctx); err != nil {
		m.t.Fatalf("machine: %v\n%s", err, m.console())
	}
	m.waitUp(ctx)
	m.BootTook = time.Since(start)
}

// waitUp returns when systemd has finished booting, whether or not some unit failed.
func (m *Machine) waitUp(ctx context.Context) {
	m.t.Helper()
	var last Result
	for {
		last = m.Run(ctx, "systemctl", "is-system-running")
		switch last.Out {
		case "running", "degraded":
			return
		}
		select {
		case <-ctx.Done():
			m.t.Fatalf("machine: not up after %v: %s %s\n%s", bootDeadline, last.Out, last.Err, m.console())
		case <-m.get().exited:
			m.t.Fatalf("machine: went down while booting\n%s", m.console())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Reboot lets systemd reboot the machine in an orderly way, and returns when it is up
// again. It returns how long the shutdown took.
func (m *Machine) Reboot() (down time.Duration) {
	m.t.Helper()
	down = m.shutDown("reboot")
	m.PowerOn()
	return down
}

// SoftReboot lets systemd restart all of user space except itself, and returns when
// systemd has ended the old processes. Run nothing in the machine meanwhile: systemd
// first stops (SIGSTOP) what runs there, and nsenter stops with it and is never
// continued.
func (m *Machine) SoftReboot() {
	m.t.Helper()
	path := fmt.Sprintf("/proc/%d/cmdline", m.get().leader)
	// systemd is executed anew, with other arguments.
	command := func() string {
		text, err := os.ReadFile(path)
		if err != nil {
			m.t.Fatalf("machine: %v", err)
		}
		return string(text)
	}
	before := command()
	m.Must("systemctl", "soft-reboot")
	m.Wait("the soft-reboot", time.Minute, func() bool { return command() != before })
}

// PowerOff lets systemd power the machine off in an orderly way, and returns when it
// is off. It returns how long that took.
func (m *Machine) PowerOff() time.Duration {
	m.t.Helper()
	return m.shutDown("poweroff")
}

// shutDown runs the command and waits until the machine is off.
func (m *Machine) shutDown(how string) time.Duration {
	m.t.Helper()
	if m.get() == nil {
		m.t.Fatalf("machine: %s: the power is off", how)
	}
	start := time.Now()
	// systemctl may die with the machine, so its exit status means nothing.
	ctx, cancel := context.WithTimeout(context.Background(), bootDeadline)
	defer cancel()
	m.Run(ctx, "systemctl", "--no-block", how)
	m.WaitOff()
	return time.Since(start)
}

// WaitOff returns when a machine that is shutting down is off: when
// systemd-nspawn has exited. On a reboot it does that too (status 133, because of
// --keep-unit).
func (m *Machine) WaitOff() {
	m.t.Helper()
	n := m.get()
	if n == nil {
		return
	}
	select {
	case <-n.exited:
	case <-time.After(bootDeadline):
		m.t.Fatalf("machine: still up after %v\n%s", bootDeadline, m.console())
	}
	m.set(nil)
	n.removeCgroup()
}

// Kill cuts the power: it kills every process of the machine at once. At the next
// PowerOn the disk holds what the machine had written.
func (m *Machine) Kill() {
	m.t.Helper()
	n := m.get()
	if n == nil {
		return
	}
	m.set(nil)
	if err := n.kill(); err != nil {
		m.t.Fatalf("machine: power cut: %v", err)
	}
}

// Up says whether the machine's power is on.
func (m *Machine) Up() bool {
	n := m.get()
	if n == nil {
		return false
	}
	select {
	case <-n.exited:
		return false
	default:
		return true
	}
}

func (m *Machine) get() *nspawn {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.nspawn
}

func (m *Machine) set(n *nspawn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.nspawn = n
}

// create makes the machine's directory and mounts its overlay.
func (m *Machine) create(image string) error {
	machines := filepath.Join(Root(), "build", "machines")
	if err := os.MkdirAll(machines, 0o755); err != nil {
		return err
	}
	all, err := lockFile(filepath.Join(machines, ".lock"), true)
	if err != nil {
		return err
	}
	defer all.Close()
	sweep(machines, remove)

	if m.dir, err = os.MkdirTemp(machines, "m"); err != nil {
		return err
	}
	m.Name = filepath.Base(m.dir)
	if m.lock, err = lockFile(filepath.Join(m.dir, "lock"), true); err != nil {
		return err
	}
	// The root of the upper layer decides the mode of "/".
	if err := os.Chmod(m.dir, 0o755); err != nil {
		return err
	}
	m.root = filepath.Join(m.dir, "root")
	upper, work := filepath.Join(m.dir, "upper"), filepath.Join(m.dir, "work")
	for _, dir := range []string{m.root, upper, work} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	lower := image
	for _, layer := range m.opts.Layers {
		lower = layer + ":" + lower
	}
	err = syscall.Mount("overlay", m.root, "overlay", 0,
		fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", lower, upper, work))
	if err != nil {
		return fmt.Errorf("mount the overlay over %s: %w", lower, err)
	}
	id, err := machineID()
	if err != nil {
		return err
	}
	m.Write("/etc/machine-id", id, 0o444)
	m.Write("/etc/hostname", m.Name+"\n", 0o644)
	return nil
}

func (m *Machine) destroy() {
	if m.t.Failed() {
		m.t.Logf("%s", m.Journal(300))
	}
	if n := m.get(); n != nil {
		m.set(nil)
		if err := n.end(); err != nil {
			m.t.Logf("machine %s: %v", m.Name, err)
		}
	}
	if m.dir != "" {
		if err := remove(m.dir); err != nil {
			m.t.Logf("machine %s: %v", m.Name, err)
		}
	}
	if m.lock != nil {
		m.lock.Close()
	}
}

// sweep removes what killed processes have left below parent: directories with a
// file "lock" that nobody has locked.
func sweep(parent string, remove func(dir string) error) {
	locks, _ := filepath.Glob(filepath.Join(parent, "*", "lock"))
	for _, path := range locks {
		lock, err := lockFile(path, false)
		if err != nil {
			continue
		}
		remove(filepath.Dir(path))
		lock.Close()
	}
}

// remove unmounts the overlay and removes a machine's directory and cgroups.
func remove(dir string) error {
	root := filepath.Join(dir, "root")
	if err := syscall.Unmount(root, 0); err == syscall.EBUSY {
		// A process that has just been killed may keep it busy a moment longer.
		syscall.Unmount(root, syscall.MNT_DETACH)
	}
	if left, _ := os.ReadDir(root); len(left) > 0 {
		return fmt.Errorf("%s is still mounted", root)
	}
	groups, _ := filepath.Glob(filepath.Join(cgroupRoot(), cgroupPrefix+filepath.Base(dir)+".*"))
	for _, group := range groups {
		removeCgroup(group)
	}
	return os.RemoveAll(dir)
}
