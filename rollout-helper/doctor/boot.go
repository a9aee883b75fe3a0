package doctor

import (
	"fmt"
	"os"
	"strings"

	"app-rollout/units"
)

// notAtBoot says which of the places will be gone after a reboot: those in memory, and
// those on a mount that neither fstab nor a unit makes. For the others an instance waits
// (RequiresMountsFor=).
func (d *Doctor) notAtBoot(paths ...string) (problems []*units.Problem) {
	if d.mounts == "" {
		// What is mounted meanwhile is left to the next check.
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			return nil
		}
		d.mounts = string(mounts)
	}
	seen := make(map[string]bool)
	for _, path := range paths {
		point, kind := mountOf(d.mounts, path)
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
		at := units.Unescape(fields[4])
		inside := at == "/" || path == at || strings.HasPrefix(path, at+"/")
		if inside && len(at) >= len(point) {
			point = at
			kind, _, _ = strings.Cut(after, " ")
		}
	}
	return point, kind
}

// mountedAtBoot reports whether something mounts the point at boot: fstab, a unit, or
// another package's generator.
func (d *Doctor) mountedAtBoot(point string) bool {
	if d.Layout.MountedAtBoot(point) {
		return true
	}
	_, err := os.Stat(d.Layout.Path(units.GeneratorDir + "/" + units.MountUnit(point)))
	return err == nil
}
