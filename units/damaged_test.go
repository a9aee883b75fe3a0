package units

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDamagedDisk: a file system that is damaged is told of, with where to look; and there
// the kernel names the device.
func TestDamagedDisk(t *testing.T) {
	needRoot(t)
	for _, sums := range []string{"metadata_csum", "^metadata_csum"} {
		t.Run(sums, func(t *testing.T) {
			dir := t.TempDir()
			l := Layout{Root: filepath.Join(dir, "mnt")}
			tree, image := filepath.Join(dir, "tree"), filepath.Join(dir, "image")
			lay(t, Layout{Root: tree}.Env("shop"), good)
			lay(t, image, "")
			sh := func(script string) (string, error) {
				out, err := exec.Command("sh", "-ec", script, "sh", image, tree, l.Root, sums).CombinedOutput()
				return string(out), err
			}
			if _, err := exec.LookPath("debugfs"); err != nil {
				t.Skip("left out: ", err)
			}
			if out, err := sh(damage); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if out, err := sh(`mount -o loop "$1" "$3"`); err != nil {
				t.Skipf("left out: a container has no loop devices: %v\n%s", err, out)
			}
			t.Cleanup(func() { sh(`umount "$3"`) })
			_, err := l.Read("shop")
			if err == nil || !strings.HasSuffix(err.Error(), "; see what the kernel says: dmesg") {
				t.Fatalf("%v", err)
			}
			if kernel, err := exec.Command("dmesg").Output(); err != nil {
				t.Logf("left out: dmesg: %v", err)
			} else if !bytes.Contains(kernel, []byte("EXT4-fs error (device loop")) {
				t.Error("the kernel says nothing of it")
			}
			if out, err := sh(`umount "$3"; e2fsck -fy "$1" || [ $? = 1 ]; mount -o loop "$1" "$3"`); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if err := os.RemoveAll(l.Env("shop")); err != nil {
				t.Fatal(err)
			}
			lay(t, l.Env("shop"), good)
			if _, err := l.ReadSource("shop"); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

const good = "SYSTEMD_EXEC_START=/usr/bin/app\n"

// damage makes a file system of a tree, and writes into the inode of the .env.
const damage = `
truncate -s 8M "$1"
mkfs.ext4 -q -b 1024 -O "$4" -d "$2" "$1"
at=$(($(debugfs -R 'imap /etc/app-rollout/shop.env' "$1" 2>/dev/null | sed -n 's/,//; s/.*located at block \([0-9]*\) offset \(0x[0-9a-f]*\).*/\1*1024+\2/p')))
test $at -gt 0
printf '\377\377\377\377\377\377\377\377' | dd of="$1" bs=1 seek=$((at+40)) conv=notrunc status=none
mkdir "$3"
`

func lay(t *testing.T, path, text string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(text), 0o644)
	}
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w", path, err))
	}
}
