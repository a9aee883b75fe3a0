package steering

import (
	"errors"
	"time"

	"app-rollout/rollout-helper/sockets"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

const (
	// maxSockets is how many sockets of a group can be steered in one rollout:
	// 256 instances of 128 workers each, old and new.
	maxSockets = 1 << 16
	// maxAsks is how many connections can be asking in a group at once.
	maxAsks = 1024
)

// group is one steered listener group.
type group struct {
	id sockets.Group
	// sockets holds every socket of the app's in this group, serving or not: the
	// kernel lets a socket be in one such array only. A socket leaves the array
	// by itself when it closes, and its slot is never given to another: the
	// program attached at that moment may take it for a serving one.
	sockets *ebpf.Map
	asks    *ebpf.Map
	slots   map[uint64]slot // by the socket's cookie
	next    uint32          // the first slot that was never used
	// serving are the cookies that the attached program picks from, in order;
	// none while nothing is attached.
	serving []uint64
	program *ebpf.Program
	// turn counts the asks, to ask an instance's sockets in turn.
	turn int
}

// slot is where a socket stands in the array, and whose it is.
type slot struct {
	index  uint32
	cgroup uint64
}

func newGroup(id sockets.Group) (*group, error) {
	array, err := ebpf.NewMap(&ebpf.MapSpec{
		Name:       "app_rollout",
		Type:       ebpf.ReusePortSockArray,
		KeySize:    4,
		ValueSize:  8,
		MaxEntries: maxSockets,
	})
	if err != nil {
		return nil, unavailable("making a BPF socket array", err)
	}
	asks, err := ebpf.NewMap(&ebpf.MapSpec{
		Name:       "app_rollout",
		Type:       ebpf.Hash,
		KeySize:    askKeySize,
		ValueSize:  4,
		MaxEntries: maxAsks,
	})
	if err != nil {
		array.Close()
		return nil, unavailable("making a BPF map", err)
	}
	return &group{id: id, sockets: array, asks: asks, slots: make(map[uint64]slot)}, nil
}

// close lets the maps and the program go; what is attached stays.
func (g *group) close() {
	g.sockets.Close()
	g.asks.Close()
	if g.program != nil {
		g.program.Close()
	}
}

// insert gives a socket its slot.
func (g *group) insert(socket *sockets.Socket) error {
	if g.next >= maxSockets {
		return &Unavailable{Reason: "more sockets listened on " + g.id.String() + " than can be steered"}
	}
	index := g.next
	g.next++
	err := untilFree(func() error { return g.sockets.Put(index, uint64(socket.FD())) })
	switch {
	case errors.Is(err, unix.EINVAL):
		return &aloneError{socket.Cookie, &Unavailable{Reason: "a listener on " + g.id.String() + " does not share its port (SO_REUSEPORT)", Err: err}}
	case errors.Is(err, errENOTSUPP):
		return &Unavailable{Reason: "a listener on " + g.id.String() + " is of a kind that cannot be steered", Err: err}
	case errors.Is(err, unix.EBUSY):
		return &Unavailable{Reason: "a listener on " + g.id.String() + " is in a BPF socket array of somebody else", Err: err}
	case err != nil:
		return unavailable("adding a socket to a BPF socket array", err)
	}
	g.slots[socket.Cookie] = slot{index: index, cgroup: socket.Cgroup}
	return nil
}

// aloneError is the error of a listener that does not share its port.
type aloneError struct {
	cookie uint64
	why    *Unavailable
}

func (e *aloneError) Error() string { return e.why.Error() }
func (e *aloneError) Unwrap() error { return e.why }

// untilFree tries for up to two seconds while the kernel says EBUSY: a socket may
// still be in the array of a program that was taken off a moment ago, since the
// kernel clears that away later.
func untilFree(try func() error) error {
	deadline := time.Now().Add(2 * time.Second)
	for {
		err := try()
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// forget drops the sockets that no longer listen.
func (g *group) forget(listening map[uint64]bool) {
	for cookie := range g.slots {
		if !listening[cookie] {
			delete(g.slots, cookie)
		}
	}
}

// load makes the program that picks from the sockets with these cookies.
func (g *group) load(serving []uint64) (*ebpf.Program, error) {
	n := len(serving)
	contents := make([]ebpf.MapKV, n+probes(n))
	for i := range contents {
		contents[i] = ebpf.MapKV{Key: uint32(i), Value: g.slots[serving[i%n]].index}
	}
	table, err := ebpf.NewMap(&ebpf.MapSpec{
		Name:       "app_rollout",
		Type:       ebpf.Array,
		KeySize:    4,
		ValueSize:  4,
		MaxEntries: uint32(len(contents)),
		Contents:   contents,
	})
	if err != nil {
		return nil, unavailable("making a BPF map", err)
	}
	defer table.Close() // the program keeps it
	loaded, err := ebpf.NewProgram(program(g.sockets, table, g.asks, n))
	if err != nil {
		return nil, unavailable("loading a BPF program", err)
	}
	return loaded, nil
}

// attach puts a program on the whole group, through any of its sockets, in the
// place of the one before.
func attach(fd int, program *ebpf.Program, id sockets.Group) error {
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_EBPF, program.FD())
	switch {
	case errors.Is(err, unix.EINVAL):
		return &Unavailable{Reason: "the listener on " + id.String() + " does not share its port (SO_REUSEPORT)", Err: err}
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, errENOTSUPP):
		return &Unavailable{Reason: "the listener on " + id.String() + " is of a kind that cannot be steered (Multipath TCP?)", Err: err}
	case err != nil:
		return unavailable("steering "+id.String(), err)
	}
	return nil
}

// detach takes the program off the whole group. It is no error if there is none,
// or the socket is of a kind that cannot have one.
func detach(fd int) error {
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_REUSEPORT_BPF, 0)
	for _, none := range []error{unix.ENOENT, unix.EINVAL, unix.EOPNOTSUPP, unix.ENOPROTOOPT} {
		if errors.Is(err, none) {
			return nil
		}
	}
	return err
}
