package balance

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"app-rollout/rollout-helper/sockets"
)

// room is how many slots a group has.
func (r *registry) room() uint32 { return uint32(len(r.slots) / len(r.used)) }

// address is how the programs name the group of a socket.
func address(s *sockets.Socket) (balanceAddress, error) {
	netns, err := unix.GetsockoptUint64(s.FD(), unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return balanceAddress{}, os.NewSyscallError("getsockopt", err)
	}
	a := balanceAddress{Netns: netns, Family: unix.AF_INET6, Port: uint64(s.Addr.Port())}
	ip := s.Addr.Addr()
	if ip.Is4() {
		a.Family = unix.AF_INET
		a.Low = word(ip.AsSlice())
		return a, nil
	}
	bytes := ip.As16()
	a.High = word(bytes[:4])<<32 | word(bytes[4:8])
	a.Low = word(bytes[8:12])<<32 | word(bytes[12:])
	return a, nil
}

// word is four bytes as the programs read them.
func word(bytes []byte) uint64 { return uint64(binary.NativeEndian.Uint32(bytes)) }

// numbers are the groups that are balanced.
func (r *registry) numbers() (map[balanceAddress]uint32, error) {
	numbers := make(map[balanceAddress]uint32)
	var a balanceAddress
	var number uint32
	all := r.ArGroups.Iterate()
	for all.Next(&a, &number) {
		numbers[a] = number
	}
	return numbers, all.Err()
}

// number is the number of a socket's group. A new one gets slots that have no
// connections any more, of whosever.
func (r *registry) number(s *sockets.Socket) (uint32, error) {
	a, err := address(s)
	if err != nil {
		return 0, err
	}
	numbers, err := r.numbers()
	if err != nil {
		return 0, err
	}
	if number, known := numbers[a]; known {
		return number, nil
	}
	taken := make(map[uint32]bool)
	for _, number := range numbers {
		taken[number] = true
	}
	for number := range uint32(len(r.used)) {
		if taken[number] || !r.idle(number) {
			continue
		}
		for i := range r.of(number) {
			slot := number*r.room() + uint32(i)
			r.slots[slot].Cookie = 0
			r.become(slot, closed)
		}
		atomic.StoreUint64(&r.used[number], 0)
		return number, r.ArGroups.Put(a, number)
	}
	return 0, fmt.Errorf("%d listener groups are balanced already, or have connections left", len(r.used))
}

// of are the slots of a group.
func (r *registry) of(number uint32) []balanceSlot {
	return r.slots[number*r.room() : (number+1)*r.room()]
}

// idle reports whether no slot of a group that is balanced no more has a listener or a
// connection.
func (r *registry) idle(number uint32) bool {
	return !slices.ContainsFunc(r.of(number), func(s balanceSlot) bool { return s.State&phase == serving || s.Conns != 0 })
}

// sweep drops the groups whose listeners have all closed: their programs are gone with
// them.
func (r *registry) sweep(v *sockets.View) error {
	numbers, err := r.numbers()
	if err != nil {
		return err
	}
	listening := make(map[uint64]bool, len(v.Listeners))
	for _, l := range v.Listeners {
		listening[l.Cookie] = true
	}
	for a, number := range numbers {
		live := func(s balanceSlot) bool { return s.State&phase != closed && listening[s.Cookie] }
		if r.used[number] > 0 && !slices.ContainsFunc(r.of(number), live) {
			if err := r.delist(a, number); err != nil {
				return err
			}
		}
	}
	return nil
}

// drop ends the counting in the group of a socket. Those connections that were counted
// are taken off to the last.
func (r *registry) drop(s *sockets.Socket) error {
	a, err := address(s)
	if err != nil {
		return err
	}
	numbers, err := r.numbers()
	if err != nil {
		return err
	}
	if number, known := numbers[a]; known {
		return r.delist(a, number)
	}
	return nil
}

// delist takes a group and its listeners out.
func (r *registry) delist(a balanceAddress, number uint32) error {
	if err := r.ArGroups.Delete(a); err != nil {
		return fmt.Errorf("writing to a BPF map: %w", err)
	}
	for i := range r.of(number) {
		slot := number*r.room() + uint32(i)
		if r.phase(slot) != serving {
			continue
		}
		r.become(slot, closed)
		if err := r.ArRegistry.Delete(slot); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("taking a listener out of a BPF map: %w", err)
		}
	}
	return nil
}

// claim takes a slot of a group that nobody has, as balance.c does.
func (r *registry) claim(number uint32, cookie uint64) (uint32, error) {
	for i := range r.of(number) {
		slot := number*r.room() + uint32(i)
		s := &r.slots[slot]
		state := atomic.LoadUint64(&s.State)
		if state&phase != closed || atomic.LoadUint32(&s.Conns) != 0 {
			continue
		}
		if atomic.CompareAndSwapUint64(&s.State, state, state+turn|claimed) {
			atomic.StoreUint64(&s.Cookie, cookie)
			return slot, nil
		}
	}
	return 0, fmt.Errorf("more than %d listen there", r.room())
}

// has reports whether a slot is one of the group's, and the listener's own.
func (r *registry) has(number, slot uint32, cookie uint64) bool {
	return slot/r.room() == number && r.slots[slot].Cookie == cookie && r.phase(slot) != closed
}

func (r *registry) release(slot uint32) { r.become(slot, closed) }

func (r *registry) phase(slot uint32) uint64 { return atomic.LoadUint64(&r.slots[slot].State) & phase }

// become puts a slot that is ours into another phase.
func (r *registry) become(slot uint32, to uint64) {
	s := &r.slots[slot].State
	atomic.StoreUint64(s, atomic.LoadUint64(s)&^phase|to)
}
