package vm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"app-rollout/test/machine"
)

// packages are in every disk. The cloud kernel is Debian's own kernel, without
// drivers for hardware that no virtual machine has.
var packages = []string{
	"systemd", "systemd-sysv", "dbus", "udev", "kmod", "procps", "iproute2",
	"initramfs-tools", "linux-image-cloud-amd64",
}

// tidy makes a tree boot without anybody at the keyboard. The second disk, which
// differs from run to run, holds the guest program. tidy leaves out what takes long
// in software emulation: everything in the initrd that is not needed to find the
// disk, generators for what this machine does not have, and the work of the first
// boot of an installation.
const tidy = `
rm -f "$1"/etc/resolv.conf "$1"/etc/systemd/system/timers.target.wants/*
echo vm > "$1/etc/hostname"
echo "/dev/vda / ext4 defaults 0 1" > "$1/etc/fstab"
for unit in serial-getty@ttyS0.service getty@tty1.service systemd-timesyncd.service e2scrub_reap.service; do
	ln -sf /dev/null "$1/etc/systemd/system/$unit"
done
mkdir -p "$1/etc/systemd/system-generators"
for generator in "$1"/usr/lib/systemd/system-generators/*; do
	case ${generator##*/} in
	systemd-fstab-generator | systemd-sysv-generator) ;;
	*) ln -s /dev/null "$1/etc/systemd/system-generators/${generator##*/}" ;;
	esac
done
mkdir -p "$1/mnt/test"
cat > "$1/etc/systemd/system/guest.service" <<'UNIT'
[Unit]
Description=The tests that run inside
OnFailure=poweroff.target
[Service]
Type=exec
ExecStartPre=mount -o ro /dev/vdb /mnt/test
ExecStart=/mnt/test/guest
UNIT
mkdir -p "$1/etc/systemd/system/multi-user.target.wants"
ln -s ../guest.service "$1/etc/systemd/system/multi-user.target.wants/guest.service"
sed -i 's/^MODULES=.*/MODULES=list/' "$1/etc/initramfs-tools/initramfs.conf"
printf '%s\n' virtio_pci virtio_blk ext4 >> "$1/etc/initramfs-tools/modules"
chroot "$1" update-initramfs -u >/dev/null
touch "$1/etc/.updated" "$1/var/.updated"
`

// Disk is a file system in a file, and the kernel and initrd that lie in it.
type Disk struct {
	Image, Kernel, Initrd string
}

// ReleaseDisk returns the disk of a release, after building it if it is not
// there. It is never booted itself: copy it.
func ReleaseDisk(release string, logf func(string, ...any)) (Disk, error) {
	tree, err := machine.Tree(release, packages, tidy, logf)
	if err != nil {
		return Disk{}, err
	}
	d := Disk{Image: tree + ".ext4"}
	for pattern, path := range map[string]*string{"vmlinuz-*": &d.Kernel, "initrd.img-*": &d.Initrd} {
		found, _ := filepath.Glob(filepath.Join(tree, "boot", pattern))
		if len(found) != 1 {
			return Disk{}, fmt.Errorf("%s: %d files match boot/%s", tree, len(found), pattern)
		}
		*path = found[0]
	}
	if _, err := os.Stat(d.Image); err == nil {
		return d, nil
	}
	if err := FileSystem(d.Image+".tmp", tree, "1500M"); err != nil {
		return Disk{}, err
	}
	return d, os.Rename(d.Image+".tmp", d.Image)
}

// FileSystem makes a file that holds an ext4 with the contents of dir. It mounts
// nothing.
func FileSystem(image, dir, size string) error {
	if err := os.RemoveAll(image); err != nil {
		return err
	}
	return run("mke2fs", "-q", "-t", "ext4", "-E", "lazy_itable_init=0", "-d", dir, image, size)
}

// Copy copies a disk; holes stay holes.
func (d Disk) Copy(image string) (Disk, error) {
	if err := run("cp", "--sparse=always", "--reflink=auto", d.Image, image); err != nil {
		return Disk{}, err
	}
	d.Image = image
	return d, nil
}

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
