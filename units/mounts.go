package units

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// hanging are the file systems on which a mere look may wait for somebody
// else, or whose files are not what they seem; fuse, fuse.* and fuseblk are so
// as well. Root cannot tell a healthy one from a hostile one, so neither is
// entered.
var hanging = []string{"autofs", "proc", "sysfs", "debugfs", "tracefs", "devtmpfs", "devpts"}

// look says what an O_PATH descriptor is of, and on which mount it lies, from
// what the kernel knows already: no file system is asked anything, so that none
// can keep us waiting (statx(2), AT_STATX_DONT_SYNC; STATX_MNT_ID is Linux 5.8).
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

// Awaited says whether a directory is to lie on a file system that is not
// mounted: one that /etc/fstab or a mount unit names. At boot the generators run
// before most are mounted (systemd.generator(7)), and what lies below a mount
// point until then is empty, or is what was there before it became one. Once a
// rollout service has run in this boot, and made our directory in /run, nothing
// is: they need what is to be mounted there, and what is running now must not
// lose its units for a line that is meant for the next boot.
func (l Layout) Awaited(dir string) bool {
	if exists(l.Path(RunDir)) {
		return false
	}
	// The mount point is the fifth field of the one table and the second of the
	// other: proc_pid_mountinfo(5), fstab(5).
	mounted, asked := l.column("/proc/self/mountinfo", 4), l.column("/etc/fstab", 1)
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if slices.Contains(mounted, dir) {
			return false
		}
		if slices.Contains(asked, dir) || slices.ContainsFunc(unitDirs, func(in string) bool {
			// A link may mask it: systemd.unit(5).
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

// mountUnit is the name of the unit that mounts something at a path without odd
// characters (systemd.unit(5), "string escaping for inclusion in unit names").
func mountUnit(path string) string {
	return strings.ReplaceAll(strings.ReplaceAll(strings.TrimPrefix(path, "/"), "-", `\x2d`), "/", "-") + ".mount"
}
