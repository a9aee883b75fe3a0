package balance

import (
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"app-rollout/rollout-helper/sockets"
)

// The phases of a slot, the low bits of its state; see balance.c.
const (
	closed = iota
	serving
	claimed
	phase = 3
	turn  = 4
)

// mostGroups is how many listener groups of one app are balanced, so that no app takes
// the room of all others.
const mostGroups = 8

// Keep balances the new connections of the instances in the control groups at paths,
// from now on and for those that come in their place: in each group that they listen
// in. They must run below the control group at slice. What is needed for that is
// pinned in dir, which lies in a bpffs.
//
// If it fails, some of the groups may be balanced: take the program off with
// steering.Detach, and call Forget.
func Keep(dir, slice string, v *sockets.View, paths []string) error {
	for _, path := range paths {
		if in, err := v.In(path); err == nil && len(in) > 0 && !strings.HasPrefix(path, slice+"/") {
			return fmt.Errorf("%s runs outside of %s (SYSTEMD_CLUSTER_REUSE_PORT=0?)", filepath.Base(path), filepath.Base(slice))
		}
	}
	opened, err := listeners(v, paths)
	defer sockets.Close(opened)
	if err != nil {
		return err
	}
	if len(opened) == 0 {
		return unseen(v, paths)
	}
	all := groups(opened)
	if len(all) > mostGroups {
		return fmt.Errorf("it listens on %d ports and addresses, and at most %d of one app can be balanced", len(all), mostGroups)
	}
	r, err := open(dir, slice, true)
	if err != nil {
		return err
	}
	defer r.close()
	if err := r.sweep(v); err != nil {
		return err
	}
	for _, group := range all {
		if err := r.keep(group); err != nil {
			return err
		}
	}
	return nil
}

// Forget ends the counting in the groups that the instances at paths listen in, and in
// those that nobody listens in any more. With the last group all of it goes.
func Forget(dir, slice string, v *sockets.View, paths []string) error {
	r, err := open(dir, slice, false)
	if r == nil || err != nil {
		return err
	}
	defer r.close()
	if err := r.sweep(v); err != nil {
		return err
	}
	opened, err := listeners(v, paths)
	defer sockets.Close(opened)
	if err != nil {
		return err
	}
	for _, group := range groups(opened) {
		if err := r.drop(group[0]); err != nil {
			return err
		}
		for _, s := range group {
			if err := r.ArPlaces.Delete(int32(s.FD())); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				return fmt.Errorf("taking a listener out of a BPF map: %w", err)
			}
		}
	}
	numbers, err := r.numbers()
	if err != nil || len(numbers) > 0 {
		return err
	}
	return empty(r.dir)
}

// listeners opens the listeners of the instances that can be balanced.
func listeners(v *sockets.View, paths []string) (opened []*sockets.Socket, err error) {
	for _, path := range paths {
		in, err := v.In(path)
		if err != nil {
			return opened, err
		}
		var wanted []sockets.Listener
		for _, l := range in {
			// The programs do not tell interfaces apart.
			if !l.MPTCP && l.Device == 0 {
				wanted = append(wanted, l)
			}
		}
		found, err := sockets.Open(path, wanted)
		opened = append(opened, found...)
		if err != nil {
			return opened, fmt.Errorf("taking a listener's file descriptor: %w", err)
		}
	}
	return opened, nil
}

// unseen says why no listener of the instances can be balanced. Who listens on no TCP
// port needs no balance.
func unseen(v *sockets.View, paths []string) error {
	for _, path := range paths {
		in, err := v.In(path)
		if err != nil {
			return err
		}
		for _, l := range in {
			if l.MPTCP {
				return fmt.Errorf("the listener on %s uses Multipath TCP", l.Group)
			}
			return fmt.Errorf("the listener on %s is tied to a network interface", l.Group)
		}
		if elsewhere, err := v.Elsewhere(path); elsewhere || err != nil {
			return cmp.Or(err, errors.New("listener in another network namespace"))
		}
	}
	return nil
}

// groups sorts sockets by their listener groups.
func groups(opened []*sockets.Socket) (all [][]*sockets.Socket) {
	at := make(map[sockets.Group]int)
	for _, s := range opened {
		i, known := at[s.Group]
		if !known {
			i = len(all)
			at[s.Group] = i
			all = append(all, nil)
		}
		all[i] = append(all[i], s)
	}
	return all
}

// keep balances one group, given those that listen in it. A listener that does not
// share its port needs no balance.
func (r *registry) keep(group []*sockets.Socket) error {
	for _, s := range group {
		shared, err := unix.GetsockoptInt(s.FD(), unix.SOL_SOCKET, unix.SO_REUSEPORT)
		if err == nil && shared == 0 {
			return nil
		}
	}
	number, err := r.number(group[0])
	if err != nil {
		return err
	}
	entered := 0
	for _, s := range group {
		err := r.enter(number, s)
		if errors.Is(err, unix.EOPNOTSUPP) {
			continue // it has closed
		}
		if err != nil {
			return fmt.Errorf("entering a listener on %s in a BPF map: %w", s.Group, err)
		}
		entered++
	}
	if entered == 0 {
		return nil
	}
	return r.attach(number, group)
}

// attach puts ar_least on the group, through whichever of its sockets still listens.
func (r *registry) attach(number uint32, group []*sockets.Socket) error {
	program, err := r.least(number)
	if err != nil {
		return err
	}
	defer program.Close()
	for _, s := range group {
		err = unix.SetsockoptInt(s.FD(), unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_EBPF, program.FD())
		if err == nil {
			return nil
		}
	}
	return fmt.Errorf("balancing %s: %w", group[0].Group, err)
}

// least loads ar_least for one group.
func (r *registry) least(number uint32) (*ebpf.Program, error) {
	spec, err := loadBalance()
	if err != nil {
		return nil, err
	}
	spec.Maps[".rodata"].Name = "ar_balance_ro"
	if err := spec.Variables["group"].Set(number); err != nil {
		return nil, err
	}
	known := make(map[string]*ebpf.Map)
	for name, m := range r.maps() {
		known[name] = *m
	}
	loaded := struct {
		Program *ebpf.Program `ebpf:"ar_least"`
	}{}
	if err := spec.LoadAndAssign(&loaded, &ebpf.CollectionOptions{MapReplacements: known}); err != nil {
		return nil, fmt.Errorf("loading a BPF program: %w", err)
	}
	return loaded.Program, nil
}

// enter enters a listener in a slot of its group, unless ar_count has done so. Whoever
// makes the note beside the socket first has it.
func (r *registry) enter(number uint32, s *sockets.Socket) error {
	slot, err := r.claim(number, s.Cookie)
	if err != nil {
		return err
	}
	own, fd := balancePlace{Slot: uint64(slot)}, int32(s.FD())
	err = r.ArPlaces.Update(fd, own, ebpf.UpdateNoExist)
	if errors.Is(err, ebpf.ErrKeyExist) {
		var there balancePlace
		if err := r.ArPlaces.Lookup(fd, &there); err == nil && r.has(number, uint32(there.Slot), s.Cookie) {
			r.release(slot)
			return nil
		}
		err = r.ArPlaces.Put(fd, own) // it is from a time before
	}
	if err == nil {
		err = sockets.UntilFree(func() error { return r.ArRegistry.Put(slot, uint64(fd)) })
	}
	if err != nil {
		r.release(slot)
		return err
	}
	atomic.StoreUint32(&r.slots[slot].Pending, 0)
	atomic.OrUint64(&r.used[number], 2<<bits.Len32(slot%r.room())-1)
	r.become(slot, serving)
	return nil
}
