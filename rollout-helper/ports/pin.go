package ports

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"app-rollout/rollout-helper/sockets"
)

// fresh is the end of a pin's name while it is not in its place yet. A bpffs
// takes no name with a dot.
const fresh = "-new"

// Pin loads the programs, attaches them to the control group at path (as
// systemd's ControlGroup= names it) and pins the links in dir, which lies in a
// bpffs. A link that is there is replaced after the new one is in force. It
// needs CAP_BPF and CAP_NET_ADMIN.
func Pin(dir, path string) error {
	if err := inBPFFS(dir); err != nil {
		return err
	}
	spec, err := programs()
	if err != nil {
		return err
	}
	loaded, err := ebpf.NewCollection(spec)
	if err != nil {
		return fmt.Errorf("loading the BPF programs: %w", err)
	}
	defer loaded.Close()
	for _, p := range pins {
		if err := pin(loaded.Programs[p.program], spec.Programs[p.program].AttachType, path, filepath.Join(dir, p.name)); err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(dir, p.name), err)
		}
	}
	return nil
}

func pin(program *ebpf.Program, hook ebpf.AttachType, cgroup, path string) error {
	attached, err := link.AttachCgroup(link.CgroupOptions{
		Path:    filepath.Join(sockets.Root(), cgroup),
		Attach:  hook,
		Program: program,
	})
	if err != nil {
		return fmt.Errorf("attaching the BPF program to %s: %w", cgroup, err)
	}
	defer attached.Close()
	// One may be left over from a run that was killed.
	if err := os.Remove(path + fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := attached.Pin(path + fresh); err != nil {
		return err
	}
	return os.Rename(path+fresh, path)
}

// Pinned returns nil if all the links are pinned in dir and attached to the
// control group at path, or else an error about the first that is not.
func Pinned(dir, path string) error {
	if err := inBPFFS(dir); err != nil {
		return err
	}
	id, err := sockets.CgroupID(path)
	if err != nil {
		return err
	}
	for _, p := range pins {
		pin := filepath.Join(dir, p.name)
		attached, err := link.LoadPinnedLink(pin, nil)
		if err != nil {
			return fmt.Errorf("%s: %w", pin, err)
		}
		info, err := attached.Info()
		attached.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", pin, err)
		}
		if cgroup := info.Cgroup(); cgroup == nil || cgroup.CgroupId != id {
			return fmt.Errorf("%s: is not attached to %s, which was made anew since", pin, path)
		}
	}
	return nil
}

// inBPFFS checks that dir lies in a bpffs, where alone a link can be pinned.
func inBPFFS(dir string) error {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	if stat.Type != unix.BPF_FS_MAGIC {
		return fmt.Errorf("%s: no bpffs is mounted there", dir)
	}
	return nil
}
