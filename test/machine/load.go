package machine

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"app-rollout/test/load"
)

// Load is a load client. It runs in the machine's network, but outside of the machine
// otherwise. A reboot does not end it, but takes its network away: start a new one
// after a reboot.
type Load struct {
	*load.Client
	t T
}

// Load starts the load client.
func (m *Machine) Load(o load.Options) *Load {
	m.t.Helper()
	n := m.get()
	if n == nil || n.leader == 0 {
		m.t.Fatalf("load: the machine's power is off")
	}
	program, err := loadProgram()
	if err != nil {
		m.t.Fatalf("load: %v", err)
	}
	if o.Workers == 0 {
		o.Workers = 16
	}
	cmd := exec.Command("nsenter", "--target", strconv.Itoa(n.leader), "--net", "--", program,
		"-addr", o.Addr, "-workers", strconv.Itoa(o.Workers), "-path", o.Path, "-want", o.Want,
		"-pause", o.Pause.String(), "-timeline="+strconv.FormatBool(o.Timeline), "-keep="+strconv.FormatBool(o.Keep), "-once="+strconv.FormatBool(o.Once),
		"-vary", o.Vary.String(), "-post", strconv.Itoa(o.Post), "-look="+strconv.FormatBool(o.Look), "-stay="+strconv.FormatBool(o.Stay))
	if o.Timeout > 0 {
		cmd.Args = append(cmd.Args, "-timeout", o.Timeout.String())
	}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c, err := load.Start(cmd)
	if err != nil {
		m.t.Fatalf("load: %v", err)
	}
	m.t.Cleanup(func() { c.Stop() })
	return &Load{c, m.t}
}

// Stop lets the attempts under way end and returns the report.
func (l *Load) Stop() *load.Report {
	l.t.Helper()
	r, err := l.Client.Stop()
	if err != nil {
		l.t.Fatalf("%v", err)
	}
	return r
}

// loadProgram builds the load command, once in a process. (go build replaces the
// file by a rename, so the file that another process runs stays intact.)
var loadProgram = sync.OnceValues(func() (string, error) {
	program := filepath.Join(Root(), "build", "load")
	return program, goBuild(program, "./test/load/cmd/load")
})
