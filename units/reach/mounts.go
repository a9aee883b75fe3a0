package reach

import (
	"os"
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
