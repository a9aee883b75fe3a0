package ports

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// fresh is the end of a pin's name while it is not in its place yet. A bpffs
// takes no name with a dot.
const fresh = "-new"

// Pin loads the programs and pins them in dir, which lies in a bpffs. Pins that
// are there are replaced, each at once; what systemd attached from them stays
// attached. It needs CAP_BPF and CAP_NET_ADMIN.
func Pin(dir string) error {
	if err := inBPFFS(dir); err != nil {
		return err
	}
	specs := programs()
	for _, name := range slices.Sorted(maps.Keys(specs)) {
		if err := pin(specs[name], filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
		}
	}
	return nil
}

func pin(spec *ebpf.ProgramSpec, path string) error {
	program, err := ebpf.NewProgram(spec)
	if err != nil {
		return fmt.Errorf("loading the BPF program: %w", err)
	}
	defer program.Close()
	// One may be left over from a run that was killed.
	if err := os.Remove(path + fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := program.Pin(path + fresh); err != nil {
		return err
	}
	return os.Rename(path+fresh, path)
}

// Pinned returns nil if all the programs are pinned in dir, or else an error
// that names the first that is not.
func Pinned(dir string) error {
	if err := inBPFFS(dir); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(programs())) {
		if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// inBPFFS checks that dir lies in a bpffs, where alone a program can be pinned.
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
