package balance

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"app-rollout/rollout-helper/sockets"
)

//go:generate go tool bpf2go -target bpfel,bpfeb -type slot -type address -type place balance balance.c -- -mcpu=v3 -Wall -Werror

// linkPin is the pin of the link of ar_count to the slice. It is pinned last: where it
// is, all else is.
const linkPin = "count"

// registry is what one build of the programs has counted, with its maps in memory. It
// belongs to one process at a time.
type registry struct {
	balanceMaps
	dir   string
	slots []balanceSlot
	used  []uint64
	done  []func() // in the order of what was opened
}

// build is the directory in dir for this build's pins.
func build(dir string) string {
	return filepath.Join(dir, fmt.Sprintf("%x", sha256.Sum256(_BalanceBytes))[:16])
}

// open opens what this build has pinned in dir. If there is nothing that counts in the
// control group at slice, it loads and attaches it, or returns nil if it is not to make
// it. Close the registry when all is done.
func open(dir, slice string, make bool) (r *registry, err error) {
	if make {
		err = os.MkdirAll(build(dir), 0o700)
	}
	if err != nil {
		return nil, err
	}
	unlock, err := lock(dir)
	if errors.Is(err, fs.ErrNotExist) && !make {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r = &registry{dir: build(dir), done: []func(){unlock}}
	defer func() {
		if err != nil {
			r.close()
			r = nil
		}
	}()
	counts, err := attached(r.dir, slice)
	if err != nil {
		return r, err
	}
	switch {
	case counts:
		err = r.read()
	case make:
		err = r.make(slice)
	default:
		r.close()
		return nil, nil
	}
	if err == nil {
		err = r.mapped()
	}
	return r, err
}

func (r *registry) close() {
	for i := len(r.done) - 1; i >= 0; i-- {
		r.done[i]()
	}
	r.done = nil
}

// lock waits until no other process changes what is pinned in dir.
func lock(dir string) (unlock func(), err error) {
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

// attached reports whether ar_count is attached to the control group at path, by what
// is pinned in dir. A slice that has gone and come back is another control group.
func attached(dir, path string) (bool, error) {
	id, err := sockets.CgroupID(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	counts, err := link.LoadPinnedLink(filepath.Join(dir, linkPin), nil)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("opening the BPF link that counts connections: %w", err)
	}
	defer counts.Close()
	info, err := counts.Info()
	if err != nil {
		return false, fmt.Errorf("reading the BPF link that counts connections: %w", err)
	}
	to := info.Cgroup()
	return to != nil && to.CgroupId == id, nil
}

// maps are the maps that are pinned, by name.
func (m *balanceMaps) maps() map[string]**ebpf.Map {
	return map[string]**ebpf.Map{
		"ar_groups": &m.ArGroups, "ar_places": &m.ArPlaces, "ar_registry": &m.ArRegistry,
		"ar_scan": &m.ArScan, "ar_slots": &m.ArSlots, "ar_used": &m.ArUsed,
	}
}

func (r *registry) read() error {
	r.done = append(r.done, func() { _ = r.balanceMaps.Close() })
	for name, m := range r.maps() {
		pinned, err := ebpf.LoadPinnedMap(filepath.Join(r.dir, name), nil)
		if err != nil {
			return fmt.Errorf("opening a BPF map: %w", err)
		}
		*m = pinned
	}
	return nil
}

// make loads ar_count, attaches it and pins all of it.
func (r *registry) make(slice string) error {
	if err := empty(r.dir); err != nil {
		return err
	}
	spec, err := loadBalance()
	if err != nil {
		return err
	}
	loaded := struct {
		balanceMaps
		Program *ebpf.Program `ebpf:"ar_count"`
	}{}
	if err := spec.LoadAndAssign(&loaded, nil); err != nil {
		return fmt.Errorf("loading a BPF program: %w", err)
	}
	r.balanceMaps = loaded.balanceMaps
	r.done = append(r.done, func() { _ = r.balanceMaps.Close() })
	defer loaded.Program.Close()
	for name, m := range r.maps() {
		if err := (*m).Pin(filepath.Join(r.dir, name)); err != nil {
			return err
		}
	}
	counts, err := link.AttachCgroup(link.CgroupOptions{
		Path:    filepath.Join(sockets.Root(), slice),
		Attach:  ebpf.AttachCGroupSockOps,
		Program: loaded.Program,
	})
	if err != nil {
		return fmt.Errorf("attaching the BPF program that counts connections to %s: %w", slice, err)
	}
	defer counts.Close()
	return counts.Pin(filepath.Join(r.dir, linkPin))
}

// mapped maps the counts into memory.
func (r *registry) mapped() error {
	slots, err := r.memory(r.ArSlots)
	if err != nil {
		return err
	}
	used, err := r.memory(r.ArUsed)
	if err != nil {
		return err
	}
	r.slots = unsafe.Slice((*balanceSlot)(unsafe.Pointer(&slots[0])), r.ArSlots.MaxEntries())
	r.used = unsafe.Slice((*uint64)(unsafe.Pointer(&used[0])), r.ArUsed.MaxEntries())
	return nil
}

func (r *registry) memory(m *ebpf.Map) ([]byte, error) {
	page := os.Getpagesize()
	size := (int(m.MaxEntries()*m.ValueSize()) + page - 1) / page * page
	memory, err := unix.Mmap(m.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, os.NewSyscallError("mmap of a BPF map", err)
	}
	r.done = append(r.done, func() { _ = unix.Munmap(memory) })
	return memory, nil
}

// empty removes the pins in a directory: the link first, without which the others are
// nothing.
func empty(dir string) error {
	pins, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	wrong := []error{err}
	if err := os.Remove(filepath.Join(dir, linkPin)); !errors.Is(err, fs.ErrNotExist) {
		wrong = append(wrong, err)
	}
	for _, pin := range pins {
		if pin.Name() != linkPin {
			wrong = append(wrong, os.Remove(filepath.Join(dir, pin.Name())))
		}
	}
	return errors.Join(wrong...)
}

// End lets every listener out of the maps of all builds that are pinned in dir, and
// removes the pins. The programs on the groups must be off before.
func End(dir string) error {
	unlock, err := lock(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unlock()
	builds, err := os.ReadDir(dir)
	wrong := []error{err}
	for _, b := range builds {
		pins := filepath.Join(dir, b.Name())
		if m, err := ebpf.LoadPinnedMap(filepath.Join(pins, "ar_registry"), nil); err == nil {
			// Without this the kernel lets them out some time later.
			for i := range m.MaxEntries() {
				_ = m.Delete(i)
			}
			m.Close()
		}
		wrong = append(wrong, empty(pins), os.Remove(pins))
	}
	return errors.Join(append(wrong, os.Remove(dir))...)
}
