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

// Pin loads the programs, links them to the control group at path (as systemd's
// ControlGroup= names it) and pins the links in dir, which lies in a bpffs. A link
// that is there gets the new program in place of its own, in one act of the
// kernel's. It needs CAP_BPF and CAP_NET_ADMIN.
func Pin(dir, path string) error {
	unlock, err := lock(dir)
	if err != nil {
		return err
	}
	defer unlock()
	return pinAll(dir, path)
}

// Renew is Pin where another build of the programs than this one is in force, and
// reports whether it was. Where none is, it does nothing: the service that shares
// the ports has not been started, or could not do it.
func Renew(dir, path string) (bool, error) {
	if build, _ := InForce(dir, path); build != Older {
		return false, nil
	}
	unlock, err := lock(dir)
	if err != nil {
		return false, err
	}
	defer unlock()
	// Another run may have been faster.
	if build, _ := InForce(dir, path); build != Older {
		return false, nil
	}
	return true, pinAll(dir, path)
}

// lock waits until no other process pins in dir.
func lock(dir string) (unlock func(), err error) {
	if err := InBPFFS(dir); err != nil {
		return nil, err
	}
	opened, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(opened.Fd()), unix.LOCK_EX); err != nil {
		opened.Close()
		return nil, &fs.PathError{Op: "flock", Path: dir, Err: err}
	}
	return func() { opened.Close() }, nil
}

func pinAll(dir, path string) error {
	spec, err := programs()
	if err != nil {
		return err
	}
	loaded, err := ebpf.NewCollection(spec)
	if err != nil {
		return fmt.Errorf("loading the BPF programs: %w", err)
	}
	defer loaded.Close()
	cgroup, err := sockets.CgroupID(path)
	if err != nil {
		return err
	}
	var ids [len(pins)]ebpf.ProgramID
	for i, p := range pins {
		program, pin := loaded.Programs[p.program], filepath.Join(dir, p.name)
		info, err := program.Info()
		if err != nil {
			return fmt.Errorf("%s: %w", pin, err)
		}
		ids[i], _ = info.ID()
		if update(program, cgroup, pin) == nil {
			continue
		}
		if err := attach(program, spec.Programs[p.program].AttachType, path, pin); err != nil {
			return fmt.Errorf("%s: %w", pin, err)
		}
	}
	return sign(dir, ids)
}

// update puts the program into a pinned link to the control group with this id.
func update(program *ebpf.Program, cgroup uint64, pin string) error {
	linked, err := link.LoadPinnedLink(pin, nil)
	if err != nil {
		return err
	}
	defer linked.Close()
	if _, err := programOf(linked, cgroup); err != nil {
		return err
	}
	return linked.Update(program)
}

// attach links the program to the control group at path, and pins the link. A link
// that has been there is replaced after the new one is in force.
func attach(program *ebpf.Program, hook ebpf.AttachType, path, pin string) error {
	attached, err := link.AttachCgroup(link.CgroupOptions{
		Path:    filepath.Join(sockets.Root(), path),
		Attach:  hook,
		Program: program,
	})
	if err != nil {
		return fmt.Errorf("attaching the BPF program to %s: %w", path, err)
	}
	defer attached.Close()
	return place(attached.Pin, pin)
}

// place pins something in the place of what is pinned there.
func place(pinTo func(string) error, pin string) error {
	// One may be left over from a run that was killed.
	if err := os.Remove(pin + fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := pinTo(pin + fresh); err != nil {
		return err
	}
	return os.Rename(pin+fresh, pin)
}

// errElsewhere is the error of a link to a control group that is gone.
var errElsewhere = errors.New("is not attached to the control group, which was made anew since")

// programOf is the program of a link to the control group with this id.
func programOf(linked link.Link, cgroup uint64) (ebpf.ProgramID, error) {
	info, err := linked.Info()
	if err != nil {
		return 0, err
	}
	if to := info.Cgroup(); to == nil || to.CgroupId != cgroup {
		return 0, errElsewhere
	}
	return info.Program, nil
}

// InBPFFS checks that dir lies in a bpffs, where alone a link can be pinned.
func InBPFFS(dir string) error {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	if stat.Type != unix.BPF_FS_MAGIC {
		return fmt.Errorf("%s: no bpffs is mounted there", dir)
	}
	return nil
}
