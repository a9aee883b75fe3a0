package machine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cgroupPrefix begins the names of the machines' cgroups.
const cgroupPrefix = "app-rollout-test-"

// nspawn is one systemd-nspawn process and its container, for one boot.
type nspawn struct {
	pid    int           // of systemd-nspawn
	leader int           // of the container's PID 1, as seen from here
	cgroup string        // directory of our cgroup, in which both live
	exited chan struct{} // closed when systemd-nspawn is gone
	err    error         // how it exited; after exited
	watch  io.Closer     // see watchOver
}

// startNspawn boots the system in root.
//
// Each boot has a cgroup of its own: with --keep-unit systemd-nspawn takes the
// cgroup it is started in, and two containers would share it. Its system call
// filter and --capability=all are what bpf() needs (systemd-nspawn 252 denies
// it otherwise). --register=no: the host may have no systemd to register with.
func startNspawn(name, root, console string) (*nspawn, error) {
	log, err := os.OpenFile(console, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	n := &nspawn{cgroup: filepath.Join(cgroupRoot(), cgroupPrefix+name), exited: make(chan struct{})}
	if err := os.Mkdir(n.cgroup, 0o755); err != nil {
		return nil, err
	}
	group, err := os.Open(n.cgroup)
	if err != nil {
		return nil, err
	}
	defer group.Close()

	cmd := exec.Command("systemd-nspawn", "--quiet", "--directory="+root, "--boot",
		"--machine="+strings.ReplaceAll(name, ".", "-"), "--register=no", "--keep-unit",
		"--private-network", "--capability=all",
		"--system-call-filter=bpf pidfd_getfd pidfd_open perf_event_open",
		"--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=pipe")
	cmd.Env = append(os.Environ(), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{
		UseCgroupFD: true, CgroupFD: int(group.Fd()),
		Setpgid:   true, // Ctrl-C is for the test, which then ends the machine
		Pdeathsig: syscall.SIGKILL,
	}
	if n.watch, err = watchOver(n.cgroup); err != nil {
		removeCgroup(n.cgroup)
		return nil, err
	}
	started := make(chan error)
	go func() {
		// The kernel sends Pdeathsig when the thread ends that started the child, not
		// when the process does. So keep the thread.
		runtime.LockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		n.pid = cmd.Process.Pid
		started <- nil
		n.err = cmd.Wait()
		close(n.exited)
	}()
	if err := <-started; err != nil {
		n.removeCgroup()
		return nil, err
	}
	return n, nil
}

// watchOver starts a process that kills everything in the cgroup if this process dies
// without a cleanup, as a test does that runs out of time. systemd-nspawn dies with
// us then, but not what it has started.
func watchOver(cgroup string) (io.Closer, error) {
	cmd := exec.Command("sh", "-c", `cat; [ ! -e "$0/cgroup.kill" ] || echo 1 >"$0/cgroup.kill"`, cgroup)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go cmd.Wait()
	return stdin, nil
}

// waitLeader finds the container's PID 1.
func (n *nspawn) waitLeader(ctx context.Context) error {
	for {
		if pid := findLeader(n.pid); pid != 0 {
			n.leader = pid
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.New("no container in systemd-nspawn")
		case <-n.exited:
			return fmt.Errorf("systemd-nspawn: %v", n.err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// findLeader is the child of pid that is PID 1 of a namespace of its own and
// has got as far as running systemd, or 0.
func findLeader(pid int) int {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		children, _ := os.ReadFile(task)
		for _, child := range strings.Fields(string(children)) {
			pids := strings.Fields(status(child, "NSpid"))
			if len(pids) < 2 || pids[len(pids)-1] != "1" || status(child, "Name") != "systemd" {
				continue
			}
			leader, err := strconv.Atoi(child)
			if err == nil {
				return leader
			}
		}
	}
	return 0
}

// status is a field of /proc/PID/status, "" if there is none.
func status(pid, field string) string {
	f, err := os.Open("/proc/" + pid + "/status")
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, value, _ := strings.Cut(lines.Text(), ":"); name == field {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// end powers the machine off in an orderly way and, if that takes too long, kills it.
// Killing many sandboxed units at once is hard on some kernels. A story that wants a
// power cut calls Kill.
func (n *nspawn) end() error {
	if n.leader != 0 {
		// SIGRTMIN+4 is "poweroff" to systemd as PID 1 (systemd(1)).
		syscall.Kill(n.leader, syscall.Signal(34+4))
		select {
		case <-n.exited:
		case <-time.After(10 * time.Second):
		}
	}
	return n.kill()
}

// kill ends PID 1 of the container, whereupon the kernel kills every process in it,
// and then systemd-nspawn itself.
func (n *nspawn) kill() error {
	select {
	case <-n.exited:
	default:
		if n.leader != 0 {
			syscall.Kill(n.leader, syscall.SIGKILL)
		}
		syscall.Kill(n.pid, syscall.SIGKILL)
	}
	select {
	case <-n.exited:
	case <-time.After(30 * time.Second):
		return fmt.Errorf("systemd-nspawn (pid %d) does not die", n.pid)
	}
	return n.removeCgroup()
}

func (n *nspawn) removeCgroup() error {
	defer n.watch.Close()
	deadline := time.Now().Add(10 * time.Second)
	for {
		err := removeCgroup(n.cgroup)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(5 * time.Millisecond) // its last processes are being reaped
	}
}

// removeCgroup removes a cgroup and all below it. They must be empty.
func removeCgroup(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeCgroup(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return syscall.Rmdir(dir)
}

// cgroupRoot is where the host has mounted cgroup v2.
func cgroupRoot() string {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "/sys/fs/cgroup"
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			return f[1]
		}
	}
	return "/sys/fs/cgroup"
}

// leaderCgroup is the directory of the cgroup in which the container's PID 1 lives.
func (n *nspawn) leaderCgroup() (string, error) {
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", n.leader))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(groups)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return filepath.Join(cgroupRoot(), path), nil
		}
	}
	return "", errors.New("PID 1 is in no cgroup of version 2")
}
