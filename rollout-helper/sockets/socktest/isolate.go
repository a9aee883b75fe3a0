// Package socktest gives tests a network of their own, control groups, and real
// servers in them. Only tests import it.
package socktest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"app-rollout/rollout-helper/sockets"

	"golang.org/x/sys/unix"
)

// The environment of a test that runs isolated: its name, then what it has come
// to, and where it finds its bpffs.
const (
	isolated = "SOCKTEST_ISOLATED"
	stage    = "SOCKTEST_STAGE"
	bpffs    = "SOCKTEST_BPFFS"
)

// Main runs the tests of a package, or the server that one of them started. To
// be called from TestMain.
func Main(m *testing.M) {
	if config := os.Getenv(serverConfig); config != "" {
		if err := serve(config); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// Isolated runs the calling test again in a process with a network namespace and
// a mount namespace of its own, and is true there. Where it is false the test
// has nothing more to do. It skips the test if not root.
//
// There the test has only the capabilities that the helper has on a real
// machine, and those that it asks for.
func Isolated(t testing.TB, more ...uintptr) bool {
	t.Helper()
	return IsolatedWith(t, append([]uintptr{unix.CAP_BPF, unix.CAP_NET_ADMIN, unix.CAP_SYS_PTRACE}, more...))
}

// IsolatedWith is Isolated with these capabilities only.
func IsolatedWith(t testing.TB, keep []uintptr) bool {
	t.Helper()
	if os.Getenv(isolated) == t.Name() {
		if os.Getenv(stage) == "" {
			t.Fatal(becomeHelper(keep))
		}
		return true
	}
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces and loads BPF programs")
	}
	args := []string{"-test.run=^" + t.Name() + "$", "-test.v=" + fmt.Sprint(testing.Verbose()), "-test.timeout=300s"}
	if _, bench := t.(*testing.B); bench {
		args = append(args, "-test.run=^$", "-test.bench=^"+t.Name()+"$")
	}
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), isolated+"="+t.Name(), bpffs+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(filepath.Join(sockets.Root(), cgroupOf(cmd.Process.Pid)))
	err := cmd.Wait()
	t.Logf("in a network namespace of its own:\n%s", out.Bytes())
	if err != nil {
		t.Fail()
	}
	return false
}

// cgroupOf is the control group above all those of one test.
func cgroupOf(pid int) string { return fmt.Sprintf("/app-rollout-sockets-%d", pid) }

// BPFFS is where an isolated test finds a bpffs of its own.
func BPFFS() string { return os.Getenv(bpffs) }

// becomeHelper does what takes a full root, then gives that up for good and
// begins again. It returns only if it fails.
func becomeHelper(keep []uintptr) error {
	runtime.LockOSThread()
	if err := loopbackUp(); err != nil {
		return fmt.Errorf("lo: %w", err)
	}
	if sockets.Root() == "" {
		return errors.New("no cgroup2 file system is mounted")
	}
	if err := os.Mkdir(filepath.Join(sockets.Root(), cgroupOf(os.Getpid())), 0o755); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making the mounts private: %w", err)
	}
	if err := unix.Mount("bpf", BPFFS(), "bpf", 0, ""); err != nil {
		return fmt.Errorf("mounting a bpffs: %w", err)
	}
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if slices.Contains(keep, c) {
			continue
		}
		// Root keeps at exec what is in the bounding set (capabilities(7)).
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			return fmt.Errorf("dropping capability %d: %w", c, err)
		}
	}
	return syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), stage+"=ready"))
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// Cgroup makes a control group for the test, and returns its path from the root
// of the hierarchy.
func Cgroup(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(cgroupOf(os.Getpid()), name)
	dir := filepath.Join(sockets.Root(), path)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		Eventually(t, "the control group "+path+" is empty", func() bool { return os.Remove(dir) == nil })
	})
	return path
}

// Eventually waits until the condition holds; the test fails if it does not
// within some seconds.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("in vain waited until %s", what)
		}
		<-tick.C
	}
}
