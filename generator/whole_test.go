package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"app-rollout/units"
)

// It ends at its own limits. What it has written by then is whole, and the apps
// that have run before are all there if only the new ones take too long.
func TestLimits(t *testing.T) {
	var apps []string
	for i := range 500 {
		apps = append(apps, fmt.Sprintf("fresh%d", i))
	}
	root := fresh(t, apps...)
	for _, app := range []string{"ancient", "old", "zoo"} {
		write(t, root, units.EnvPath(app), good)
		record(t, units.Layout{Root: root}, app)
	}
	// recorded is what there is of those that were recorded.
	recorded := func(r result) string {
		for _, pattern := range []string{"/.*", "/fresh*"} {
			found, err := filepath.Glob(r.out + pattern)
			if err != nil {
				t.Fatal(err)
			}
			for _, path := range found {
				os.RemoveAll(path)
			}
		}
		return r.snapshot(t)
	}
	full := runGenerator(t, root, freshEnv+"=10m")
	whole(t, root, full.out)
	if all, _ := filepath.Glob(full.out + "/*.service"); full.status != 0 || full.stderr != "" || len(all) != 503 {
		t.Fatalf("without a limit: status %d, %d units, %s", full.status, len(all), full.stderr)
	}
	want := recorded(full)
	for _, c := range []struct {
		name, limit string
		copied      bool
	}{
		{"recorded", recordedEnv + "=1ns", false},
		{"fresh, at once", freshEnv + "=1ns", true},
		{"fresh, somewhat later", freshEnv + "=5ms", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := runGenerator(t, root, c.limit)
			if r.status != 1 || strings.Count(r.stderr, "\n") != 1 || !strings.Contains(r.stderr, units.EtcDir+": gave up") {
				t.Errorf("status %d, said %q", r.status, r.stderr)
			}
			whole(t, root, r.out)
			all, _ := filepath.Glob(r.out + "/*.service")
			t.Logf("%d units", len(all))
			if got := recorded(r); c.copied && got != want {
				t.Error(difference(got, want))
			}
		})
	}
}

// TestGaveUp follows what it says when the time is over: the .env that took it is found
// and mended, or the machine is less busy, and then the next run makes all units.
func TestGaveUp(t *testing.T) {
	apps := []string{"slow"}
	for i := range 300 { // so that it cannot end before it gives up
		apps = append(apps, fmt.Sprintf("app%d", i))
	}
	root := fresh(t, apps...)
	slow := root + units.EtcDir + "/slow.env"
	good, err := os.ReadFile(slow)
	if err != nil {
		t.Fatal(err)
	}
	text := good
	for i := range 20 {
		text = fmt.Appendf(text, "A%d=\"$A%d$A%d$A%d\"\n", i+1, i, i, i)
	}
	write := func(text []byte) {
		t.Helper()
		if err := os.WriteFile(slow, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(append(text, "A0=x\n"...))
	if r := runGenerator(t, root, freshEnv+"=1ns"); r.status != 1 || !strings.HasSuffix(r.stderr, "see app-rollout check\n") {
		t.Errorf("status %d, said %q", r.status, r.stderr)
	}
	// This is what check says.
	if _, err := (units.Layout{Root: root}).Read("slow"); err == nil || !strings.Contains(err.Error(), "slow.env: ") {
		t.Errorf("check says %v", err)
	}
	write(good)
	var said string
	(&generator{say: func(_ level, err error) { said = err.Error() }}).giveUp(9*time.Second, time.Second, true)
	if !strings.HasSuffix(said, "when the machine is less busy: systemctl daemon-reload") {
		t.Errorf("said %q", said)
	}
	r := runGenerator(t, root)
	if all, _ := filepath.Glob(r.out + "/*.service"); r.status != 0 || r.stderr != "" || len(all) != len(apps) {
		t.Errorf("afterwards: status %d, %q, %d units", r.status, r.stderr, len(all))
	}
}

// At whatever moment one is killed, units are whole or not there.
func TestKilled(t *testing.T) {
	var apps []string
	for i := range 40 {
		apps = append(apps, fmt.Sprintf("app%d", i))
	}
	root := fresh(t, apps...)
	midway := 0
	for delay, i := 100*time.Microsecond, 0; ; delay, i = delay+delay/16, i+1 {
		out := t.TempDir()
		c := command(root, out)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		<-time.After(delay)
		c.Process.Signal([]os.Signal{syscall.SIGKILL, syscall.SIGTERM}[i%2])
		err := c.Wait()
		whole(t, root, out)
		if err == nil {
			break // it was done before
		}
		made, _ := filepath.Glob(out + "/*.service")
		if len(made) > 0 && len(made) < len(apps) {
			midway++
		}
		if delay > 30*time.Second {
			t.Fatal("it does not end by itself")
		}
	}
	t.Logf("caught %d times", midway)
	if midway == 0 {
		t.Error("it was never caught half-way: nothing is tested")
	}
}

// Two at once, one of which is killed, leave units that are whole, and the next
// run puts everything right.
func TestKilledAndAtOnce(t *testing.T) {
	root := fresh(t, "a", "b", "c", "d", "e")
	want := runGenerator(t, root).snapshot(t)
	out := t.TempDir()
	for i := range 20 {
		one, two := command(root, out), command(root, out)
		if err := errors.Join(one.Start(), two.Start()); err != nil {
			t.Fatal(err)
		}
		timer := time.NewTimer(time.Duration(i) * time.Millisecond)
		<-timer.C
		one.Process.Signal([]os.Signal{syscall.SIGKILL, syscall.SIGTERM}[i%2])
		one.Wait()
		if err := two.Wait(); err != nil {
			t.Fatalf("the other one: %v", err)
		}
		whole(t, root, out)
	}
	// PID 1 empties the directory before a run; here leftovers are removed.
	left, err := filepath.Glob(out + "/.*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range left {
		os.RemoveAll(path)
	}
	r := runGeneratorIn(t, root, out)
	if got := r.snapshot(t); got != want || r.status != 0 {
		t.Errorf("status %d, %s", r.status, difference(got, want))
	}
}

// whole fails for a unit that is cut or a want that leads nowhere.
func whole(t *testing.T, root, out string) {
	t.Helper()
	found, _ := filepath.Glob(out + "/*.service")
	for _, path := range found {
		// It is a copy of what was frozen, now or when the app was rolled out.
		app := strings.TrimSuffix(filepath.Base(path), "@.service")
		want, err1 := os.ReadFile(filepath.Join(root, units.GenerationDir(app, 1), "unit"))
		if err1 != nil {
			want, err1 = os.ReadFile(filepath.Join(out, app+".generation", "unit"))
		}
		text, err2 := os.ReadFile(path)
		if errors.Join(err1, err2) != nil || len(text) == 0 || string(text) != string(want) {
			t.Errorf("%s is cut: %v %v", path, err1, err2)
		}
	}
	links, _ := filepath.Glob(out + "/" + wants + "/*")
	for _, path := range links {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
}

// What cannot be written is said, and no more happens.
func TestCannotWrite(t *testing.T) {
	root := fresh(t, "shop")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	locked := t.TempDir()
	if err := os.Chmod(locked, 0o555); err != nil {
		t.Fatal(err)
	}
	for out, want := range map[string]string{file: "not a directory", file + "/x": "not a directory", "/proc/nothing": "no such file", locked: "permission denied"} {
		c := command(root, out)
		if out == locked && os.Getuid() == 0 {
			// Root may write anywhere, so somebody else has to try.
			for _, dir := range []string{filepath.Dir(root), filepath.Dir(out)} {
				if err := os.Chmod(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		said, err := c.CombinedOutput()
		if err == nil || c.ProcessState.ExitCode() != 1 || !strings.Contains(string(said), want) || strings.Contains(string(said), "goroutine") {
			t.Errorf("%s: %v %s", out, err, said)
		}
	}
}

// A file system that is full or read-only: exit status 1, and nothing is there
// in part.
func TestNoSpace(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("left out: only root can mount a small file system")
	}
	root := fresh(t, "a", "b", "c", "d", "e", "f")
	out := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, option := range []string{"size=4k", "size=12k", "size=32k", "size=64k", "ro"} {
		c := exec.Command("/bin/sh", "-c", `mount -t tmpfs -o `+option+` none "$1" && { "$2" "$1"; status=$?; cp -a "$1/." "$3"; exit $status; }`, "sh", out, exe, t.TempDir())
		kept := c.Args[len(c.Args)-1]
		c.Env = []string{rootEnv + "=" + root, "PATH=" + os.Getenv("PATH")}
		c.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		said, err := c.CombinedOutput()
		if strings.Contains(string(said), "mount:") {
			t.Skip("left out: no mounts here")
		}
		want := "no space left"
		if option == "ro" {
			want = "read-only file system"
		}
		if err == nil || c.ProcessState.ExitCode() != 1 || !strings.Contains(string(said), want) || strings.Contains(string(said), "goroutine") {
			t.Errorf("%s: %v %s", option, err, said)
		}
		whole(t, root, kept)
	}
}
