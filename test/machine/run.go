package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Result is how a command in the machine ended.
type Result struct {
	Code int    // exit status; 128+n if it died of signal n, -1 if it never ran
	Out  string // standard output, without the last newline
	Err  string // standard error, likewise
	Took time.Duration
}

// environment is that of all commands in the machine. It has nothing of the host's.
var environment = []string{
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	"HOME=/root", "LANG=C.UTF-8", "TERM=dumb", "SYSTEMD_PAGER=", "SYSTEMD_COLORS=0",
	"DEBIAN_FRONTEND=noninteractive",
}

// Run runs a command in the machine: in all of its namespaces and in its
// cgroups (in PID 1's), as root. A command that fails is not a failed test.
// When ctx is done the command is killed.
func (m *Machine) Run(ctx context.Context, name string, args ...string) Result {
	return m.RunInput(ctx, "", name, args...)
}

// RunInput is Run with a standard input.
func (m *Machine) RunInput(ctx context.Context, input, name string, args ...string) Result {
	var stdout, stderr bytes.Buffer
	start := time.Now()
	cmd, done, err := m.Command(ctx, name, args...)
	if err != nil {
		return Result{Code: -1, Err: err.Error()}
	}
	defer done()
	cmd.Stdin = strings.NewReader(input)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	r := Result{
		Out: strings.TrimSuffix(stdout.String(), "\n"), Err: strings.TrimSuffix(stderr.String(), "\n"),
		Took: time.Since(start),
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		r.Code = exit.ExitCode()
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			r.Code = 128 + int(ws.Signal())
		}
	} else if err != nil {
		r.Code, r.Err = -1, strings.TrimSpace(r.Err+"\n"+err.Error())
	}
	return r
}

// Command is a command that is ready to be started in the machine, for callers that
// follow its output. Call done after it was started, or if it is not started.
func (m *Machine) Command(ctx context.Context, name string, args ...string) (cmd *exec.Cmd, done func(), err error) {
	n := m.get()
	if n == nil || n.leader == 0 {
		return nil, nil, errors.New("the machine's power is off")
	}
	dir, err := n.leaderCgroup()
	if err != nil {
		return nil, nil, err
	}
	group, err := os.Open(dir)
	if err != nil {
		return nil, nil, err
	}
	cmd = exec.CommandContext(ctx, "nsenter", append([]string{
		"--target", strconv.Itoa(n.leader), "--all", "--root", "--wd", "--", name}, args...)...)
	cmd.Env = environment
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, UseCgroupFD: true, CgroupFD: int(group.Fd())}
	cmd.Cancel = func() error { return killGroup(cmd.Process.Pid) }
	cmd.WaitDelay = 5 * time.Second
	return cmd, func() { group.Close() }, nil
}

// killGroup kills what an nsenter has started. nsenter has forked, because only a
// child is in the pid namespace, and it dies of the same signal when its child is
// dead. Killing both at once would leave the child to the host's PID 1, and until
// that reaps the child the machine cannot shut down.
func killGroup(nsenter int) error {
	killed := false
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == nsenter {
			continue
		}
		if group, err := syscall.Getpgid(pid); err == nil && group == nsenter {
			killed = syscall.Kill(pid, syscall.SIGKILL) == nil || killed
		}
	}
	if killed {
		return nil
	}
	return syscall.Kill(nsenter, syscall.SIGKILL)
}

// runDeadline bounds Must and Sh, whose callers expect them to be quick.
const runDeadline = 3 * time.Minute

// Must runs a command that has to succeed, and returns its output.
func (m *Machine) Must(name string, args ...string) string {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), runDeadline)
	defer cancel()
	r := m.Run(ctx, name, args...)
	if r.Code != 0 {
		m.t.Fatalf("%s %s: exit status %d\n%s\n%s", name, strings.Join(args, " "), r.Code, r.Out, r.Err)
	}
	return r.Out
}

// Sh is Must for a shell script, which ends at its first failing command.
func (m *Machine) Sh(script string) string {
	m.t.Helper()
	return m.Must("sh", "-euc", script)
}

// Wait asks cond every few milliseconds and returns when it is true. It fails the test
// and names what if that takes longer than the deadline.
func (m *Machine) Wait(what string, deadline time.Duration, cond func() bool) {
	m.t.Helper()
	end := time.Now().Add(deadline)
	for !cond() {
		if time.Now().After(end) {
			m.t.Fatalf("%s: not within %v", what, deadline)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Property is one property of a unit, as `systemctl show --value` prints it.
func (m *Machine) Property(unit, name string) string {
	m.t.Helper()
	return m.Must("systemctl", "show", "--value", "--property="+name, "--", unit)
}

// Journal is the last lines of this boot's journal; of the console's log if
// the machine is down.
func (m *Machine) Journal(lines int) string {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r := m.Run(ctx, "journalctl", "-b", "--no-pager", "-o", "short-precise", "-n", strconv.Itoa(lines))
	if r.Code != 0 {
		return m.console()
	}
	return fmt.Sprintf("journal of %s (%s):\n%s", m.Name, m.opts.Release, r.Out)
}

func (m *Machine) console() string {
	text, err := os.ReadFile(m.dir + "/console.log")
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("console of %s (%s):\n%s", m.Name, m.opts.Release, text[max(0, len(text)-8000):])
}
