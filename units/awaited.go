package units

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

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
