package closing

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"app-rollout/rollout-helper/ports"
	"app-rollout/rollout-helper/sockets"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

//go:generate go tool bpf2go -target bpfel,bpfeb tell tell.c -- -mcpu=v3 -Wall -Werror

// Closing tells the clients of one app's instances to close their connections. It is
// to be used from one goroutine at a time.
type Closing struct {
	dir     string // where the links are pinned
	objects tellObjects
	// attachTo attaches ar_tell to the interface with this index.
	attachTo func(c *Closing, index int) (hook, error)
	hooks    map[int]hook         // what is attached to each interface, by its index
	ears     map[string]link.Link // what is attached to each control group, by its path
	covered  time.Time            // when the interfaces were listed last
	refused  map[int]error        // why it could not be attached to an interface
	partial  *Partial             // where it is not, as it was seen then; nil: it is everywhere
	// The interfaces that had a clsact queueing discipline then; nil: that was not asked.
	disciplines map[int]bool
}

// Counts are connections.
type Counts struct {
	Told    uint64 // the client was told to close
	Closing uint64 // the app itself said so
	Untold  uint64 // answers in which nothing could be changed
}

// The indices of the counters in tell.c.
const (
	countTold uint32 = iota
	countClosing
	countUntold
)

// tellSpec is what tell.c was compiled to.
var tellSpec = sync.OnceValues(loadTell)

// Open loads the programs, and attaches the one that changes answers to all network
// interfaces. Nothing is changed before Tell. Dir lies in a bpffs; what a run before
// has left there is taken off.
func Open(dir string) (*Closing, error) { return open(dir, (*Closing).attach) }

func open(dir string, attach func(c *Closing, index int) (hook, error)) (*Closing, error) {
	if err := Sweep(dir); err != nil {
		return nil, err
	}
	if err := ports.InBPFFS(filepath.Dir(dir)); err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	c := &Closing{dir: dir, attachTo: attach, hooks: make(map[int]hook), refused: make(map[int]error), ears: make(map[string]link.Link)}
	spec, err := tellSpec()
	if err != nil {
		return nil, fmt.Errorf("reading the BPF programs: %w", err)
	}
	if err := spec.Copy().LoadAndAssign(&c.objects, nil); err != nil {
		return nil, fmt.Errorf("loading the BPF programs: %w", err)
	}
	if err := c.cover(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Tell has the answers of the instances in the control groups at paths tell their
// clients to close, from the next request on. It is to be called again and again, so
// that interfaces that appear meanwhile are seen. A *Partial says that it does so, but not
// behind all interfaces.
func (c *Closing) Tell(paths []string) error {
	if err := c.cover(); err != nil {
		return err
	}
	for _, path := range paths {
		if c.ears[path] != nil {
			continue
		}
		at := filepath.Join(sockets.Root(), path)
		ear, err := link.AttachCgroup(link.CgroupOptions{
			Path:    at,
			Attach:  ebpf.AttachCGroupInetIngress,
			Program: c.objects.ArHear,
		})
		if _, e := os.Stat(at); err != nil && errors.Is(e, fs.ErrNotExist) {
			continue // it has ended; the library does not pass on why it failed
		}
		if err != nil {
			return fmt.Errorf("attaching the BPF program to %s: %w", path, err)
		}
		c.ears[path] = ear
	}
	if c.partial != nil {
		return c.partial
	}
	return nil
}

// Counts returns what was counted since Open.
func (c *Closing) Counts() (Counts, error) {
	var counts Counts
	for index, n := range map[uint32]*uint64{countTold: &counts.Told, countClosing: &counts.Closing, countUntold: &counts.Untold} {
		if err := c.objects.ArTold.Lookup(index, n); err != nil {
			return counts, err
		}
	}
	return counts, nil
}

// Close takes everything off.
func (c *Closing) Close() error {
	var wrong []error
	for _, ear := range c.ears {
		wrong = append(wrong, ear.Close())
	}
	for _, h := range c.hooks {
		wrong = append(wrong, h.close())
	}
	wrong = append(wrong, c.objects.Close(), Sweep(c.dir))
	return errors.Join(wrong...)
}
