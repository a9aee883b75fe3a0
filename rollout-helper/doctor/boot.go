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
	if d.mounts == nil {
		// What is mounted meanwhile is left to the next check.
		table, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			return nil
		}
		d.mounts = mountsIn(string(table))
	}
	seen := make(map[string]bool)
	for _, path := range paths {
		at := mountOf(d.mounts, path)
		point, kind := at.point, at.kind
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

// mount is a mount point and the kind of file system that is mounted there.
type mount struct{ point, kind string }

// mountsIn are those in a table as proc_pid_mountinfo(5) has it, in their order.
func mountsIn(mountinfo string) (all []mount) {
	for line := range strings.Lines(mountinfo) {
		before, after, _ := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		if len(fields) < 5 {
			continue
		}
		kind, _, _ := strings.Cut(after, " ")
		all = append(all, mount{units.Unescape(fields[4]), kind})
	}
	return all
}

// mountOf finds the mount that a path lies on: the one with the longest mount point above
// the path, and the last one if several share that point.
func mountOf(mounts []mount, path string) (at mount) {
	for _, m := range mounts {
		inside := m.point == "/" || path == m.point || strings.HasPrefix(path, m.point+"/")
		if inside && len(m.point) >= len(at.point) {
			at = m
		}
	}
	return at
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
