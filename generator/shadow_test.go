package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"app-rollout/units"
)

// TestBeat: systemd gets the recorded unit in the early directory under each name that a
// file which is not ours has. A mask is obeyed, and another package's unit is not hidden.
func TestBeat(t *testing.T) {
	const copied = units.Header + "[Unit]\nSourcePath=/var/lib/app-rollout/shop/generations/7/env\n"
	for _, c := range []struct {
		name, path, text string // text: what is there, "" for a link to /dev/null
		early, normal    string // the units in the directories
		says             string
	}{
		{"nothing", "", "", "", "shop@.service", ""},
		{"the template", "etc/systemd/system/shop@.service", copied, "shop@.service", "shop@.service", "rm /etc/systemd/system/shop@.service && "},
		{"the template until reboot", "run/systemd/system/shop@.service", copied, "shop@.service", "shop@.service", "is a copy of"},
		{"one instance", "etc/systemd/system/shop@2.service", copied, "shop@2.service", "shop@.service", "rm /etc/systemd/system/shop@2.service"},
		{"an instance that is not started", "etc/systemd/system/shop@9.service", copied, "", "shop@.service", "rm /etc/systemd/system/shop@9.service"},
		{"the other mode", "etc/systemd/system/shop.service", copied, "", "shop@.service", "rm /etc/systemd/system/shop.service"},
		{"another unit", "etc/systemd/system/shop@.service", "[Unit]\n", "shop@.service", "shop@.service", "app-rollout has not generated it"},
		{"a mask", "etc/systemd/system/shop@.service", "", "", "shop@.service", "systemctl unmask shop@.service"},
		{"a package's", "usr/lib/systemd/system/shop@.service", "[Unit]\n", "", "", "rename the file"},
		{"a package's of the other mode", "usr/lib/systemd/system/shop.service", "[Unit]\n", "", "shop@.service", "rename the file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := fresh(t, "shop")
			record(t, units.Layout{Root: root}, "shop")
			switch {
			case c.path == "":
			case c.text != "":
				write(t, root, c.path, c.text)
			default:
				if err := errors.Join(os.MkdirAll(filepath.Dir(root+"/"+c.path), 0o755), os.Symlink("/dev/null", root+"/"+c.path)); err != nil {
					t.Fatal(err)
				}
			}
			out, early, late := t.TempDir(), t.TempDir(), t.TempDir()
			cmd := command(root, out)
			cmd.Args = append(cmd.Args, early, late)
			said, err := cmd.CombinedOutput()
			if (err != nil) != (c.says != "") || !strings.Contains(string(said), c.says) {
				t.Errorf("%v, said %q, want %q", err, said, c.says)
			}
			if got := names(t, early); got != c.early {
				t.Errorf("the early units are %q, not %q", got, c.early)
			}
			if got := names(t, out); got != c.normal {
				t.Errorf("the units are %q, not %q", got, c.normal)
			}
			if c.early != "" {
				ours, err := os.ReadFile(out + "/shop@.service")
				if text, e := os.ReadFile(early + "/" + c.early); errors.Join(err, e) != nil || string(text) != string(ours) {
					t.Errorf("it is another one: %v", errors.Join(err, e))
				}
			}
		})
	}
}

// TestBeaten: an app that was never ready hides nobody's unit.
func TestBeaten(t *testing.T) {
	root := fresh(t, "shop")
	write(t, root, "etc/systemd/system/shop@.service", units.Header)
	r := runGenerator(t, root)
	if r.status != 1 || r.snapshot(t) != "" || !strings.Contains(r.stderr, "rm /etc/systemd/system/shop@.service") {
		t.Errorf("status %d: %s\n%s", r.status, r.stderr, r.snapshot(t))
	}
}

// names are the units in a directory.
func names(t *testing.T, dir string) string {
	t.Helper()
	all, err := filepath.Glob(dir + "/*.service")
	if err != nil {
		t.Fatal(err)
	}
	for i := range all {
		all[i] = filepath.Base(all[i])
	}
	return strings.Join(all, " ")
}
