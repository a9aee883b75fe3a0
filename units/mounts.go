package units

import (
	"fmt"
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
	mounted := l.mountPoints("/proc/self/mountinfo", 4) // proc_pid_mountinfo(5)
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if slices.Contains(mounted, dir) {
			return false
		}
		if l.MountedAtBoot(dir) {
			return true
		}
	}
	return false
}

// MountedAtBoot reports whether /etc/fstab or an installed unit mounts something at a
// point.
func (l Layout) MountedAtBoot(point string) bool {
	if slices.Contains(l.mountPoints("/etc/fstab", 1), point) { // fstab(5)
		return true
	}
	return slices.ContainsFunc(unitDirs, func(dir string) bool {
		// A link to /dev/null masks the unit: systemd.unit(5).
		info, err := os.Stat(l.Path(dir + "/" + MountUnit(point)))
		return err == nil && info.Mode().IsRegular()
	})
}

// mountPoints are the paths in one column of a table, counted from 0.
func (l Layout) mountPoints(table string, column int) []string {
	data, err := os.ReadFile(l.Path(table))
	if err != nil {
		return nil
	}
	var all []string
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > column && !strings.HasPrefix(f[0], "#") {
			all = append(all, filepath.Clean(Unescape(f[column])))
		}
	}
	return all
}

// Unescape undoes the octal escapes of a path in fstab(5) and mountinfo.
func Unescape(s string) string { return unescape.Replace(s) }

var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// MountUnit is the unit that mounts something at a point, as `systemd-escape --path`
// names it (systemd.unit(5), "String escaping for inclusion in unit names").
func MountUnit(point string) string {
	var b strings.Builder
	for i, c := range []byte(strings.Trim(point, "/")) {
		switch {
		case c == '/':
			b.WriteByte('-')
		case c == '.' && i > 0, c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == ':':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String() + ".mount"
}
