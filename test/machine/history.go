package machine

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// DebOf is the package that an earlier commit of this repository makes. It is
// built once, by that commit's own `make deb`, and kept in build/history. A
// copy of the repository without that commit, as a shallow clone or an archive
// of the sources, fails the test.
func DebOf(t T, commit string) string {
	t.Helper()
	dir := filepath.Join(Root(), "build", "history", commit)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatalf("%v", err)
	}
	lock, err := lockFile(filepath.Join(dir, "lock"), true)
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer lock.Close()
	debs, _ := filepath.Glob(filepath.Join(dir, "*.deb"))
	if len(debs) == 0 {
		t.Logf("building the package of %.7s (once)", commit)
		deb, err := buildDeb(commit, dir)
		if err != nil {
			t.Fatalf("the package of %.7s: %v", commit, err)
		}
		debs = []string{deb}
	}
	if len(debs) != 1 {
		t.Fatalf("%d packages lie in %s: remove it", len(debs), dir)
	}
	return debs[0]
}

// buildDeb builds a commit's package in a directory of its own, outside of the
// repository, where that commit's Makefile takes all files instead of asking
// git for them, and moves it into dir.
func buildDeb(commit, dir string) (string, error) {
	temp, err := os.MkdirTemp("", "app-rollout-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temp)
	sources, archive := filepath.Join(temp, "src"), filepath.Join(temp, "src.tar")
	if err := os.Mkdir(sources, 0o755); err != nil {
		return "", err
	}
	// sudo make test: the repository may be another user's.
	if err := run(Root(), "git", "-c", "safe.directory=*", "archive", "--output="+archive, commit); err != nil {
		return "", fmt.Errorf("%w\nthe history up to that commit is needed: clone the whole repository, or run git fetch --unshallow", err)
	}
	if err := run(sources, "tar", "-xf", archive); err != nil {
		return "", err
	}
	if err := run(sources, "make", "deb"); err != nil {
		return "", err
	}
	built, err := filepath.Glob(filepath.Join(sources, "build", "*.deb"))
	if err != nil || len(built) != 1 {
		return "", fmt.Errorf("make deb made %d packages", len(built))
	}
	deb := filepath.Join(dir, filepath.Base(built[0]))
	if err := copyFile(built[0], deb+".new"); err != nil {
		return "", err
	}
	return deb, os.Rename(deb+".new", deb)
}

// run runs a command in dir, without what a make that runs the tests tells its
// children.
func run(dir, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "MAKE") || strings.HasPrefix(v, "MFLAGS=")
	})
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, bytes.TrimSpace(out))
	}
	return nil
}
