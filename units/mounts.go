package units

import (
	"bytes"
	"os"
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

// mountOf is the id of the mount that an O_PATH descriptor lies on. It asks
// the file system nothing (proc_pid_fdinfo(5)).
func mountOf(fd int) (string, error) {
	// Not os.ReadFile: this is done for every component of every path, and the
	// generator has a boot waiting.
	info, err := unix.Open("/proc/self/fdinfo/"+strconv.Itoa(fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(info)
	buf := make([]byte, 512)
	n, err := unix.Read(info, buf)
	if err != nil {
		return "", err
	}
	for line := range bytes.Lines(buf[:n]) {
		if id, ok := bytes.CutPrefix(line, []byte("mnt_id:")); ok {
			return string(bytes.TrimSpace(id)), nil
		}
	}
	return "", os.ErrInvalid
}

// mountType is the file system type of a mount (proc_pid_mountinfo(5)), "" if
// the mount is not in the table.
func mountType(id string) (string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(data)) {
		if first, _, _ := strings.Cut(line, " "); first != id {
			continue
		}
		_, after, _ := strings.Cut(line, " - ")
		fs, _, _ := strings.Cut(after, " ")
		return fs, nil
	}
	return "", nil
}

// mayHang says why a mount must not be entered, "" if it may be.
func mayHang(id string) string {
	if _, err := strconv.Atoi(id); err != nil {
		return "lies on a mount that cannot be told"
	}
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
