//go:build story

package test

import (
	"bufio"
	"context"
	_ "embed"
	"fmt"
	"io"
	"testing"
	"time"

	"app-rollout/test/machine"
)

//go:embed gate.py
var gateProgram string

// A gate holds a run of the helper in one of its steps, for as long as a story
// needs to do something to it there.
type gate struct {
	t     *testing.T
	stdin io.WriteCloser
	said  chan string
	end   func()
}

// gated are drop-ins that send the helper's records through the gate, if there is one.
func gated() map[string]string {
	files := map[string]string{}
	for _, service := range []string{"app-rollout", "app-rollout-rollback", "app-rollout-restart", "app-rollout-recover"} {
		files["/etc/systemd/system/"+service+"@.service.d/gate.conf"] = "[Service]\nBindPaths=-/run/gate/socket:/run/systemd/journal/socket\n"
	}
	return files
}

// newGate opens a gate on a machine that was booted with the drop-ins.
func newGate(t *testing.T, m *machine.Machine) *gate {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd, done, err := m.Command(ctx, "python3", "-c", gateProgram)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	g := &gate{t: t, said: make(chan string, 10)}
	if g.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			g.said <- lines.Text()
		}
		_ = cmd.Wait()
	}()
	g.end = func() {
		g.stdin.Close()
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
		}
		cancel()
		<-ended
	}
	t.Cleanup(g.end)
	if g.next(time.Minute) != "open" {
		t.Fatal("there is no gate")
	}
	return g
}

// close lets through what the gate keeps, and closes the gate at the next record of
// this step.
func (g *gate) close(at step) { fmt.Fprintln(g.stdin, string(at)) }

// open lets everything through.
func (g *gate) open() { g.close("") }

// next is what the gate says next: "" if it says nothing within the limit.
func (g *gate) next(limit time.Duration) string {
	select {
	case text := <-g.said:
		return text
	case <-time.After(limit):
		return ""
	}
}
