package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"app-rollout/units"
	"app-rollout/units/dotenv"
)

var update = flag.Bool("update", false, "write the golden files anew")

// rootEnv makes this test program the generator, with another root; the other
// two give it other limits.
const (
	rootEnv     = "APP_ROLLOUT_TEST_ROOT"
	recordedEnv = "APP_ROLLOUT_TEST_RECORDED"
	freshEnv    = "APP_ROLLOUT_TEST_FRESH"
)

func TestMain(m *testing.M) {
	dotenv.ParserMain()
	if root := os.Getenv(rootEnv); root != "" {
		limits := usual
		for name, limit := range map[string]*time.Duration{recordedEnv: &limits.recorded, freshEnv: &limits.fresh} {
			if text := os.Getenv(name); text != "" {
				var err error
				if *limit, err = time.ParseDuration(text); err != nil {
					panic(err)
				}
			}
		}
		os.Exit(generate(units.Layout{Root: root}, limits, os.Args[1:]))
	}
	os.Exit(m.Run())
}

// canary stands for every secret: it may be in an environment file or a frozen
// .env of mode 0600 and nowhere else.
const canary = "c4n4ryS3cret"

// result is one run of the generator in another process.
type result struct {
	status int
	stderr string
	out    string        // the directory
	cpu    time.Duration // used, its children's too
}

// runGenerator runs the generator below root; env is added to its environment.
func runGenerator(t testing.TB, root string, env ...string) result {
	t.Helper()
	return runGeneratorIn(t, root, t.TempDir(), env...)
}

func runGeneratorIn(t testing.TB, root, out string, env ...string) result {
	t.Helper()
	c := command(root, out)
	c.Env = append(c.Env, env...)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit != nil && exit.ExitCode() < 0 {
		t.Fatalf("the generator died: %v\n%s", err, stderr.String())
	}
	return result{c.ProcessState.ExitCode(), strings.ReplaceAll(stderr.String(), root, ""), out,
		c.ProcessState.UserTime() + c.ProcessState.SystemTime()}
}

func command(root, out string) *exec.Cmd {
	c := exec.Command("/proc/self/exe", out)
	c.Args[0] = "app-rollout-generator"
	c.Env = []string{rootEnv + "=" + root}
	return c
}

// snapshot is all that a run left: every file with its mode and its text.
func (r result) snapshot(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(r.out, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == r.out {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, r.out+"/")
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			fmt.Fprintf(&b, "== %s -> %s\n", name, target)
			return err
		case d.IsDir():
			fmt.Fprintf(&b, "== %s/ %04o\n", name, info.Mode().Perm())
		default:
			text, err := os.ReadFile(path)
			app, frozen := strings.CutSuffix(name, ".generation/unit")
			if frozen && (same(r.out+"/"+app+".service", text) || same(r.out+"/"+app+"@.service", text)) {
				text = []byte("(the same as is emitted)\n")
			}
			fmt.Fprintf(&b, "== %s %04o\n%s", name, info.Mode().Perm(), text)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(b.String(), r.out, "/run/systemd/generator")
}

func same(path string, text []byte) bool {
	other, err := os.ReadFile(path)
	return err == nil && bytes.Equal(other, text)
}

// plant copies a tree to a new root, with the modes that a package gives.
func plant(t testing.TB, from string) string {
	t.Helper()
	root := t.TempDir()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := root + strings.TrimPrefix(path, from)
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			return errors.Join(err, os.Symlink(target, to))
		case d.IsDir():
			return errors.Join(os.MkdirAll(to, 0o755), os.Chmod(to, 0o755))
		}
		text, err := os.ReadFile(path)
		mode := fs.FileMode(0o644)
		if bytes.HasPrefix(text, []byte("#!")) {
			mode = 0o755
		}
		return errors.Join(err, os.WriteFile(to, text, mode), os.Chmod(to, mode))
	})
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// write puts a file below a root.
func write(t testing.TB, root, path, text string) {
	t.Helper()
	path = filepath.Join(root, path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644), os.Chmod(path, 0o644)); err != nil {
		t.Fatal(err)
	}
}

// fresh is a root with a program, the state directory, and apps of this text.
func fresh(t testing.TB, apps ...string) string {
	t.Helper()
	root := t.TempDir()
	write(t, root, "usr/bin/app", "#!")
	if err := errors.Join(os.Chmod(root+"/usr/bin/app", 0o755), os.MkdirAll(root+units.StateDir, 0o755), os.MkdirAll(root+units.EtcDir, 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, app := range apps {
		write(t, root, units.EnvPath(app), good)
	}
	return root
}

const good = "SYSTEMD_EXEC_START=/usr/bin/app\nSYSTEMD_CLUSTER_MODE=1\nSECRET=" + canary + "\n"
