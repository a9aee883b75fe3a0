//go:build vm

package vm

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"app-rollout/test/load"
	"app-rollout/test/machine"
)

// TestStockKernel takes each release through the life of a server: install,
// rollouts under load, with the clock set back in the middle, a failed one,
// limits, a power cut before the commit of a rollout and one after it, the boots
// that follow, an orderly end. The guest program does the checks.
func TestStockKernel(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: sudo make vm")
	}
	for _, release := range []string{"bookworm", "trixie"} {
		t.Run(release, func(t *testing.T) {
			t.Parallel() // an emulated machine does not make use of more than one CPU
			disk, err := ReleaseDisk(release, t.Logf)
			if err != nil {
				t.Fatal(err)
			}
			_, how := Accelerator(disk.Kernel)
			t.Logf("%s, %s", filepath.Base(disk.Kernel), how)
			dir := t.TempDir()
			if disk, err = disk.Copy(filepath.Join(dir, "disk")); err != nil {
				t.Fatal(err)
			}
			data := dataDisk(t, dir)

			for life, end := range []string{"CUT", "CUT", "DONE"} {
				v := boot(t, dir, disk, data)
				if last := follow(t, v); last != end {
					t.Fatalf("boot %d ended with %q, not with %q", life+1, last, end)
				}
				if end == "CUT" {
					lost, err := v.Cut()
					if err != nil {
						t.Fatal(err)
					}
					t.Logf("the power is cut: %v", lost)
					continue
				}
				began := time.Now()
				if err := v.WaitOff(time.Minute); err != nil {
					t.Fatal(err)
				}
				t.Logf("switched itself off in %v", time.Since(began).Round(time.Millisecond))
			}
		})
	}
}

// dataDisk is what the machine gets from us: the package, the guest program, the
// sample app, and the tests of the packages that load BPF programs.
func dataDisk(t *testing.T, dir string) string {
	t.Helper()
	files := filepath.Join(dir, "files")
	if err := os.Mkdir(files, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := run("cp", machine.Deb(t), filepath.Join(files, "app-rollout.deb")); err != nil {
		t.Fatal(err)
	}
	build := func(name, pkg string, command ...string) {
		t.Helper()
		args := slices.Concat(command, []string{"-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", filepath.Join(files, name), pkg})
		cmd := exec.Command("go", args...)
		cmd.Dir = machine.Root()
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	build("guest", "./test/vm/guest", "build")
	build("server", "./test/apps/server", "build")
	build("ports.test", "./rollout-helper/ports", "test", "-c")
	build("steering.test", "./rollout-helper/steering", "test", "-c")
	build("traffic.test", "./rollout-helper/traffic", "test", "-c")
	build("balance.test", "./rollout-helper/balance", "test", "-c")
	build("closing.test", "./rollout-helper/closing", "test", "-c")
	image := filepath.Join(dir, "data")
	if err := FileSystem(image, files, "64M"); err != nil {
		t.Fatal(err)
	}
	return image
}

func boot(t *testing.T, dir string, disk Disk, data string) *VM {
	t.Helper()
	v, err := Boot(dir, disk, data)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Kill)
	return v
}

// bootLimit is for one whole life of a machine, in software emulation on a
// busy host.
const bootLimit = 10 * time.Minute

// follow logs what the guest says, fails the test for what it found wrong, and
// returns its last word: "CUT", "DONE" or "".
func follow(t *testing.T, v *VM) string {
	t.Helper()
	var kept func() *load.Report
	limit := time.After(bootLimit)
	began := time.Now()
	for {
		select {
		case line, ok := <-v.Lines:
			word, text, _ := strings.Cut(line, " ")
			switch {
			case !ok:
				t.Errorf("the machine went off by itself\n%s", v.Console())
				return ""
			case word == "CUT", word == "DONE":
				return word
			case word == "ASK":
				kept = ask(v.Addr)
			case word == "ENOUGH":
				r := kept()
				t.Logf("the host's client: %v", r)
				untold, _ := strconv.Atoi(text)
				if r.Lost() > untold || r.Answered() == 0 {
					t.Errorf("the host's client: %v: %v", r, r.Failures)
				}
			case word == "FAIL":
				t.Errorf("%s", text)
			case line != "":
				t.Logf("%5.1f s  %s", time.Since(began).Seconds(), line)
			}
		case <-limit:
			t.Errorf("not done after %v\n%s", bootLimit, v.Console())
			return ""
		}
	}
}

// ask is a client that keeps its connection, until the function that it returns is called.
func ask(addr string) (stop func() *load.Report) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan *load.Report)
	go func() {
		done <- load.Run(ctx, load.Options{Addr: addr, Workers: 1, Keep: true, Pause: 80 * time.Millisecond, Timeout: 30 * time.Second}, nil)
	}()
	return func() *load.Report {
		cancel()
		return <-done
	}
}
