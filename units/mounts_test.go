package units

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAwaited(t *testing.T) {
	const (
		root   = "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
		onVar  = "22 21 8:2 / /var rw,relatime shared:1 - ext4 /dev/sda2 rw\n"
		store  = `/etc/systemd/system/var-lib-app\x2drollout.mount`
		mount  = "[Mount]\nWhat=/dev/sdb1\n"
		fstab  = "# /dev/sda9 /var ext4 defaults 0 2\nUUID=a / ext4 defaults 0 1\nUUID=b none swap sw 0 0\n"
		sdaVar = "/dev/sda2\t/var/ ext4 defaults 0 2\n"
	)
	for name, c := range map[string]struct {
		fstab, mounted string
		unit           string
		want           bool
	}{
		"all on one":              {fstab, root, "", false},
		"no tables":               {"", "", "", false},
		"/var is to come":         {fstab + sdaVar, root, "", true},
		"/var is there":           {fstab + sdaVar, root + onVar, "", false},
		"the store is to come":    {fstab + sdaVar, root + onVar, store, true},
		"the store is there":      {fstab, root + "23 21 8:3 / /var/lib/app-rollout rw - ext4 /dev/sdb1 rw\n", store, false},
		"one beside it":           {fstab + "/dev/sdb1 /var/lib/app ext4 defaults 0 2\n", root, "", false},
		"one below it":            {fstab + "/dev/sdb1 /var/lib/app-rollout/shop ext4 defaults 0 2\n", root, "", false},
		"a unit for all of /var":  {fstab, root, "/usr/lib/systemd/system/var.mount", true},
		"a unit for what is else": {fstab, root, "/etc/systemd/system/var-lib-app.mount", false},
	} {
		l := Layout{Root: t.TempDir()}
		for path, text := range map[string]string{"/etc/fstab": c.fstab, "/proc/self/mountinfo": c.mounted, c.unit: mount} {
			if path == "" || text == "" {
				continue
			}
			if err := os.MkdirAll(filepath.Dir(l.Path(path)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(l.Path(path), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := l.Awaited(StateDir); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}

	// A line for the next boot takes nothing away from what runs.
	running := Layout{Root: t.TempDir()}
	for path, text := range map[string]string{"/etc/fstab": fstab + sdaVar, "/proc/self/mountinfo": root, RunDir + "/shop/lock": ""} {
		if err := os.MkdirAll(filepath.Dir(running.Path(path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(running.Path(path), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if running.Awaited(StateDir) {
		t.Error("it is waited for a mount when apps run already")
	}

	// Masked by the admin: nobody mounts it.
	l := Layout{Root: t.TempDir()}
	if err := os.MkdirAll(filepath.Dir(l.Path(store)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/null", l.Path(store)); err != nil {
		t.Fatal(err)
	}
	if l.Awaited(StateDir) {
		t.Error("a masked unit mounts nothing")
	}
}

func TestMountedAtBoot(t *testing.T) {
	l := Layout{Root: t.TempDir()}
	for path, text := range map[string]string{
		"/etc/fstab": "# /dev/x /commented xfs\n/dev/sdb /srv xfs defaults 0 0\n/dev/sdc /with\\040space/ xfs defaults\n",
		`/etc/systemd/system/mnt-my\x2ddata.mount`: "",
	} {
		if err := os.MkdirAll(filepath.Dir(l.Path(path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(l.Path(path), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for point, want := range map[string]bool{"/srv": true, "/with space": true, "/commented": false, "/mnt/my-data": true, "/mnt/other": false} {
		if got := l.MountedAtBoot(point); got != want {
			t.Errorf("%s: %v", point, got)
		}
	}
}

func TestMountUnit(t *testing.T) {
	for point, want := range map[string]string{
		"/var/lib/app-rollout": `var-lib-app\x2drollout.mount`,
		"/srv":                 "srv.mount",
		"/srv/.hidden":         "srv-.hidden.mount",
		"/.hidden":             `\x2ehidden.mount`,
		"/with space/é":        `with\x20space-\xc3\xa9.mount`,
	} {
		if got := MountUnit(point); got != want {
			t.Errorf("%s: %s, want %s", point, got, want)
		}
	}
}
