package units

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// hanging are the types of file systems on which a mere look may wait for another
// process, or whose files are not what they seem. fuse, fuse.* and fuseblk belong
// to them too. Root cannot tell a healthy one from a hostile one, so a walk enters
// none of them.
var hanging = []string{"autofs", "proc", "sysfs", "debugfs", "tracefs", "devtmpfs", "devpts"}

// look is the stat of an O_PATH descriptor and the id of the mount that it lies on.
// It takes what the kernel knows already and asks no file system, so that none can
// keep us waiting (statx(2), AT_STATX_DONT_SYNC; STATX_MNT_ID needs Linux 5.8).
func look(fd int) (stat unix.Stat_t, mount uint64, err error) {
	var x unix.Statx_t
	err = unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_NO_AUTOMOUNT|unix.AT_STATX_DONT_SYNC, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &x)
	if err == nil && x.Mask&unix.STATX_MNT_ID == 0 {
		err = unix.ENOSYS
	}
	stat.Mode, stat.Uid, stat.Gid = uint32(x.Mode), x.Uid, x.Gid
	return stat, x.Mnt_id, err
}

// mountType is the file system type of a mount (proc_pid_mountinfo(5)), "" if
// the mount is not in the table.
func mountType(id uint64) (string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(data)) {
		if first, _, _ := strings.Cut(line, " "); first != strconv.FormatUint(id, 10) {
			continue
		}
		_, after, _ := strings.Cut(line, " - ")
		fs, _, _ := strings.Cut(after, " ")
		return fs, nil
	}
	return "", nil
}

// mayHang says why a mount must not be entered, "" if it may be.
func mayHang(id uint64) string {
	fs, err := mountType(id)
	if err != nil || fs == "" {
		return "lies on a mount that is not in /proc/self/mountinfo"
	}
	if hangs(fs) {
		return "lies on a file system of type " + fs + ", which may keep the boot waiting"
	}
	return ""
}

func hangs(fs string) bool {
	return strings.HasPrefix(fs, "fuse") || slices.Contains(hanging, fs)
}

// Awaited says whether a directory belongs on a file system that is not mounted
// yet, because /etc/fstab or a mount unit names a mount point on its way. At boot
// the generators run before most file systems are mounted (systemd.generator(7)).
// Until then a mount point is empty, or shows what was there before.
//
// It is false once a rollout service has run in this boot and has made our
// directory in /run. These services start only when the file system is mounted;
// and a new line in /etc/fstab, which is meant for the next boot, must not take
// the units away from what runs.
func (l Layout) Awaited(dir string) bool {
	if exists(l.Path(RunDir)) {
		return false
	}
	// The mount point is the fifth field of mountinfo and the second of fstab:
	// proc_pid_mountinfo(5), fstab(5).
	mounted, asked := l.column("/proc/self/mountinfo", 4), l.column("/etc/fstab", 1)
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if slices.Contains(mounted, dir) {
			return false
		}
		if slices.Contains(asked, dir) || slices.ContainsFunc(unitDirs, func(in string) bool {
			// A link to /dev/null masks the unit: systemd.unit(5).
			info, err := os.Stat(l.Path(in + "/" + mountUnit(dir)))
			return err == nil && info.Mode().IsRegular()
		}) {
			return true
		}
	}
	return false
}

// column is one field of each line of a table, as a path.
func (l Layout) column(table string, n int) []string {
	data, err := os.ReadFile(l.Path(table))
	if err != nil {
		return nil
	}
	var all []string
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > n && !strings.HasPrefix(f[0], "#") {
			all = append(all, filepath.Clean(f[n]))
		}
	}
	return all
}

// mountUnit is the name of the unit for the mount point path, which has no special
// characters but "-" (systemd.unit(5), "string escaping for inclusion in unit
// names").
func mountUnit(path string) string {
	return strings.ReplaceAll(strings.ReplaceAll(strings.TrimPrefix(path, "/"), "-", `\x2d`), "/", "-") + ".mount"
}
