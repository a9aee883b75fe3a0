package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"app-rollout/units"
)

// notAtBoot says which of the places will be gone after a reboot: those in memory, and
// those on a mount that neither fstab nor a unit makes. For the others an instance waits
// (RequiresMountsFor=).
func (d *Doctor) notAtBoot(paths ...string) (problems []*units.Problem) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	seen := make(map[string]bool)
	for _, path := range paths {
		point, kind := mountOf(string(mounts), path)
		if point == "/" || point == "" || seen[point] {
			continue
		}
		seen[point] = true
		switch {
		case kind == "tmpfs" || kind == "ramfs":
			problems = append(problems, &units.Problem{Path: path, Text: "lies in memory (" + point + " is a " + kind + "): it is gone after a reboot"})
		case !d.mountedAtBoot(point):
			problems = append(problems, &units.Problem{Path: path, Text: fmt.Sprintf("lies on %s, which nothing mounts at boot", point), Remedy: "enter it in /etc/fstab"})
		}
	}
	return problems
}

// mountOf finds the mount that a path lies on (proc_pid_mountinfo(5)): the one with the
// longest mount point above the path, and the last one if several share that point.
func mountOf(mountinfo, path string) (point, kind string) {
	for line := range strings.Lines(mountinfo) {
		before, after, _ := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		if len(fields) < 5 {
			continue
		}
		at := unescape(fields[4])
		inside := at == "/" || path == at || strings.HasPrefix(path, at+"/")
		if inside && len(at) >= len(point) {
			point = at
			kind, _, _ = strings.Cut(after, " ")
		}
	}
	return point, kind
}

// unescape undoes the octal escapes of fstab(5) and mountinfo.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// mountedAtBoot says whether fstab or a unit mounts the place.
func (d *Doctor) mountedAtBoot(point string) bool {
	fstab, _ := os.ReadFile(d.Layout.Path("/etc/fstab"))
	for line := range strings.Lines(string(fstab)) {
		if f := strings.Fields(line); len(f) > 2 && !strings.HasPrefix(f[0], "#") && filepath.Clean(unescape(f[1])) == point {
			return true
		}
	}
	unit := escape(point) + ".mount"
	for _, dir := range []string{"/etc/systemd/system", "/run/systemd/generator", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"} {
		if unix.Access(d.Layout.Path(dir+"/"+unit), unix.F_OK) == nil {
			return true
		}
	}
	return false
}

// escape is `systemd-escape --path` (systemd.unit(5), "String escaping").
func escape(path string) string {
	var b strings.Builder
	for i, c := range []byte(strings.Trim(path, "/")) {
		switch {
		case c == '/':
			b.WriteByte('-')
		case c == '.' && i > 0, c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == ':':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String()
}
