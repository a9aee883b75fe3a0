package steering

import (
	"errors"
	"fmt"
	"sync"

	"app-rollout/rollout-helper/sockets"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

//go:generate go tool bpf2go -target bpfel,bpfeb pick pick.c -- -mcpu=v3 -Wall -Werror

const (
	// maxInstances is how many instances an app can have.
	maxInstances = 256
	// usualListeners is how many listeners of one instance every group has room for.
	usualListeners = 4
	// whole is the policy by which list 1 gets all new connections; by 0, list 0
	// gets them.
	whole = 256
)

// group is one steered listener group: the program of pick.c with maps of its own.
// So no app can use up another's room, and all of it is freed when the group is no
// longer steered.
type group struct {
	id sockets.Group
	pickObjects
	room   int             // how many slots there are
	probes int             // how many sockets of a list the program tries
	slots  map[uint64]slot // by the socket's cookie
	// inForce is the list by which the program picks, and serving are the cookies
	// of its sockets, in order; none before the first switch.
	inForce int
	serving []uint64
	listed  []uint32 // their slots
	// asking counts the connections that are asking, by the slot.
	asking map[uint32]int
	// turn counts the asks, to ask an instance's sockets in turn.
	turn int
}

// slot is where a socket stands among the listeners, and whose it is.
type slot struct {
	index  uint32
	cgroup uint64
}

// pickSpec is what pick.c was compiled to.
var pickSpec = sync.OnceValues(loadPick)

// newGroup makes the maps and loads the program, for instances of so many
// listeners each in this group. There is room for as many instances as an app can
// have, old and new. Both lists are empty: by these the kernel chooses, as if
// nothing were steered.
func newGroup(id sockets.Group, listeners int) (*group, error) {
	spec, err := pickSpec()
	if err != nil {
		return nil, unavailable("reading the BPF program", err)
	}
	g := &group{id: id, room: 2 * maxInstances * max(listeners, usualListeners), slots: make(map[uint64]slot), asking: make(map[uint32]int)}
	spec = spec.Copy()
	lists := spec.Maps["ar_lists"]
	g.probes = int(lists.MaxEntries)/2 - 1
	lists.MaxEntries += 2 * uint32(g.room)
	spec.Maps["ar_listeners"].MaxEntries = uint32(g.room)
	if err := spec.LoadAndAssign(&g.pickObjects, nil); err != nil {
		return nil, unavailable("loading a BPF program", err)
	}
	return g, nil
}

// close lets the maps and the program go; what is attached stays.
func (g *group) close() { _ = g.pickObjects.Close() }

// forget drops the sockets that no longer listen.
func (g *group) forget(listening map[uint64]bool) {
	for cookie := range g.slots {
		if !listening[cookie] {
			delete(g.slots, cookie)
		}
	}
}

// join attaches the program through each of the sockets, and gives each a slot.
// The program holds for the whole group: to attach it again changes nothing, but
// tells whether the socket belongs to a group.
func (g *group) join(joining []*sockets.Socket) error {
	// A slot is given to another socket only when nobody can be sent there who
	// means the one before.
	taken := make(map[uint32]bool, g.room)
	for _, s := range g.slots {
		taken[s.index] = true
	}
	for _, index := range g.listed {
		taken[index] = true
	}
	for index := range g.asking {
		taken[index] = true
	}
	index := uint32(0)
	for _, socket := range joining {
		if _, in := g.slots[socket.Cookie]; in {
			continue
		}
		for taken[index] {
			index++
		}
		if int(index) >= g.room {
			return &Unavailable{Reason: "more sockets listened on " + g.id.String() + " than can be steered"}
		}
		if err := attach(socket, g.ArPick); err != nil {
			return err
		}
		if err := g.insert(index, socket); err != nil {
			return err
		}
		taken[index] = true
		g.slots[socket.Cookie] = slot{index: index, cgroup: socket.Cgroup}
	}
	return nil
}

func (g *group) insert(index uint32, socket *sockets.Socket) error {
	err := sockets.UntilFree(func() error { return g.ArListeners.Put(index, uint64(socket.FD())) })
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("a listener on %s listens no more: %w", g.id, errMoved)
	case errors.Is(err, unix.EBUSY):
		return &Unavailable{Reason: "a listener on " + g.id.String() + " is in a BPF map of somebody else", Err: err}
	case err != nil:
		return unavailable("adding a socket to a BPF map", err)
	}
	return nil
}

// list writes the sockets with these cookies to the list that is not in force.
func (g *group) list(serving []uint64) error {
	list, n := uint32(1-g.inForce), len(serving)
	keys, values := []uint32{list}, []uint32{uint32(n)}
	for i := range n + g.probes {
		keys = append(keys, 2*uint32(1+i)+list)
		values = append(values, g.slots[serving[i%n]].index)
	}
	if _, err := g.ArLists.BatchUpdate(keys, values, nil); err != nil {
		return unavailable("writing to a BPF map", err)
	}
	return nil
}

// flip puts the other list in force: one word is written.
func (g *group) flip() error {
	policy := uint32(0)
	if g.inForce == 0 {
		policy = whole
	}
	if err := g.ArPolicy.Put(uint32(0), policy); err != nil {
		return unavailable("writing to a BPF map", err)
	}
	g.inForce = 1 - g.inForce
	return nil
}

// steered says whether a list has been put in force.
func (g *group) steered() bool { return g.serving != nil }

// use notes whose list has been put in force.
func (g *group) use(serving []uint64) {
	g.serving, g.listed = serving, nil
	for _, cookie := range serving {
		g.listed = append(g.listed, g.slots[cookie].index)
	}
}

// aloneError is the error of a listener that does not share its port.
type aloneError struct {
	cookie uint64
	why    *Unavailable
}

func (e *aloneError) Error() string { return e.why.Error() }
func (e *aloneError) Unwrap() error { return e.why }

// attach puts a program on the whole group of a socket, in the place of the one
// before.
func attach(socket *sockets.Socket, program *ebpf.Program) error {
	err := unix.SetsockoptInt(socket.FD(), unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_EBPF, program.FD())
	switch {
	case errors.Is(err, unix.EINVAL):
		return &aloneError{socket.Cookie, &Unavailable{Reason: "the listener on " + socket.Group.String() + " does not share its port (SO_REUSEPORT)", Err: err}}
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, errENOTSUPP):
		return &Unavailable{Reason: "the listener on " + socket.Group.String() + " is of a kind that cannot be steered (Multipath TCP?)", Err: err}
	case err != nil:
		return unavailable("steering "+socket.Group.String(), err)
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
