package sockets

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Root is where the cgroup2 file system is mounted: /sys/fs/cgroup, or
// /sys/fs/cgroup/unified on hosts that still have cgroup v1. It is empty if
// there is none.
var Root = sync.OnceValue(func() string {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	return cgroupMount(string(mounts))
})

// cgroupMount finds the first cgroup2 mount in a mountinfo table
// (proc_pid_mountinfo(5)): "… root mountpoint options [tags] - type source …".
func cgroupMount(mountinfo string) string {
	for _, line := range strings.Split(mountinfo, "\n") {
		before, after, found := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		if found && strings.HasPrefix(after, "cgroup2 ") && len(fields) >= 5 {
			return unescape(fields[4])
		}
	}
	return ""
}

// unescape undoes mountinfo's octal escapes of white space and backslash.
func unescape(s string) string {
	for _, c := range []string{" ", "\t", "\n", `\`} {
		s = strings.ReplaceAll(s, fmt.Sprintf(`\%03o`, c[0]), c)
	}
	return s
}

// directory returns the directory of the control group at path.
func directory(path string) (string, error) {
	if Root() == "" {
		return "", errors.New("no cgroup2 file system is mounted")
	}
	return filepath.Join(Root(), filepath.Join("/", path)), nil
}

// CgroupID returns the id of the control group at path, which is relative to
// the root of the hierarchy, as systemd's ControlGroup= gives it:
// /system.slice/shop.service. The id is the inode number of its directory.
func CgroupID(path string) (uint64, error) {
	dir, err := directory(path)
	if err != nil {
		return 0, err
	}
	var stat unix.Stat_t
	if err := unix.Stat(dir, &stat); err != nil {
		return 0, &fs.PathError{Op: "stat", Path: dir, Err: err}
	}
	return stat.Ino, nil
}

// Populated reports whether a process runs in the control group at path, or below it;
// see cgroups(7), cgroup.events.
func Populated(path string) bool {
	dir, err := directory(path)
	if err != nil {
		return false
	}
	events, err := os.ReadFile(filepath.Join(dir, "cgroup.events"))
	return err == nil && slices.Contains(strings.Split(string(events), "\n"), "populated 1")
}

// Tree returns the ids of the control group at path and of all below it; none if
// that control group is not there.
func Tree(path string) (map[uint64]bool, error) {
	ids := make(map[uint64]bool)
	err := walk(path, func(_ string, id uint64) error {
		ids[id] = true
		return nil
	})
	return ids, err
}

// CgroupPath returns the path of the control group with this id, such as
// /system.slice/nginx.service. It is false if there is no such group now.
func CgroupPath(id uint64) (string, bool) {
	var path string
	err := walk("/", func(dir string, ino uint64) error {
		if ino == id {
			path = filepath.Join("/", strings.TrimPrefix(dir, Root()))
			return fs.SkipAll
		}
		return nil
	})
	return path, err == nil && path != ""
}

// walk calls each for the directory of the control group at path and all below
// it. Groups that vanish meanwhile are left out. fs.SkipAll ends it.
func walk(path string, each func(dir string, id uint64) error) error {
	top, err := directory(path)
	if err != nil {
		return err
	}
	if err := descend(top, each); err != nil && !errors.Is(err, fs.SkipAll) {
		return err
	}
	return nil
}

func descend(dir string, each func(dir string, id uint64) error) error {
	var stat unix.Stat_t
	err := unix.Stat(dir, &stat)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "stat", Path: dir, Err: err}
	}
	if err := each(dir, stat.Ino); err != nil {
		return err
	}
	// A directory's link count is 2 and one for each directory in it
	// (kernfs_refresh_inode, fs/kernfs/inode.c). Most control groups have none,
	// but dozens of files that need not be read then.
	if stat.Nlink == 2 {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		if err := descend(filepath.Join(dir, entry.Name()), each); err != nil {
			return err
		}
	}
	return nil
}

// processes returns the pids in the control group at path and below it.
func processes(path string) ([]int, error) {
	var pids []int
	err := walk(path, func(dir string, _ uint64) error {
		file, err := os.Open(filepath.Join(dir, "cgroup.procs"))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		defer file.Close()
		lines := bufio.NewScanner(file)
		for lines.Scan() {
			// 0 is a process that this pid namespace cannot name.
			if pid, err := strconv.Atoi(lines.Text()); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
		// ENODEV: the group was removed; EOPNOTSUPP: it is threaded, and its
		// processes are listed above it.
		if err := lines.Err(); err != nil && !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
		return nil
	})
	return pids, err
}
