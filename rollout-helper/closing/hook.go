package closing

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// relist is how often the interfaces are listed.
const relist = 200 * time.Millisecond

// ErrLate says that the kernel has not taken the programs yet. It may still do so.
var ErrLate = errors.New("the kernel is still loading the BPF programs")

// Partial says behind which network interfaces clients are not told, and why not. Behind
// all others they are.
type Partial struct{ Wrong []error }

// named is how many interfaces a Partial names.
const named = 3

// Error is one line, however many interfaces there are.
func (p *Partial) Error() string {
	var some []string
	for _, err := range p.Wrong[:min(named, len(p.Wrong))] {
		some = append(some, err.Error())
	}
	text := strings.Join(some, "; ")
	if more := len(p.Wrong) - named; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}

// A hook is where ar_tell sees the packets that leave by one interface.
type hook interface {
	close() error
}

// cover attaches ar_tell to the interfaces that have it not. It lists them once in a
// while only: with hundreds of them that takes milliseconds. What refuses it is not tried
// again, and does not keep it from the others: cover fails only if it is on none.
func (c *Closing) cover() error {
	if time.Since(c.covered) < relist {
		return nil
	}
	c.partial, c.disciplines = nil, nil
	interfaces, err := net.Interfaces()
	if err != nil {
		return fmt.Errorf("listing the network interfaces: %w", err)
	}
	var wrong []error
	for _, i := range interfaces {
		if c.hooks[i.Index] != nil || i.Flags&net.FlagUp == 0 {
			continue
		}
		if err := c.hookTo(i.Index); err != nil {
			wrong = append(wrong, fmt.Errorf("attaching the BPF program to the network interface %s: %w", i.Name, err))
		}
	}
	c.covered = time.Now()
	if len(wrong) > 0 {
		c.partial = &Partial{wrong}
	}
	if len(wrong) > 0 && len(c.hooks) == 0 {
		return errors.New(c.partial.Error())
	}
	return nil
}

// hookTo attaches ar_tell to an interface, unless that was refused before. It is no error
// if the interface is gone by now.
func (c *Closing) hookTo(index int) error {
	if err := c.refused[index]; err != nil {
		return err
	}
	h, err := c.attachTo(c, index)
	switch {
	case errors.Is(err, unix.ENODEV):
	case err != nil:
		c.refused[index] = err
		return err
	default:
		c.hooks[index] = h
	}
	return nil
}

// attach attaches ar_tell to an interface, by a link where the kernel has those.
func (c *Closing) attach(index int) (hook, error) {
	attached, err := link.AttachTCX(link.TCXOptions{
		Interface: index,
		Program:   c.objects.ArTell,
		Attach:    ebpf.AttachTCXEgress,
		Anchor:    link.Head(), // whoever came before us may not pass packets on
	})
	if errors.Is(err, ebpf.ErrNotSupported) {
		return c.filter(index)
	}
	if err != nil {
		return nil, err
	}
	if err := attached.Pin(filepath.Join(c.dir, linkPin(index))); err != nil {
		return nil, errors.Join(err, attached.Close())
	}
	return pinned{attached}, nil
}

// pinned is a hook that is a pinned link.
type pinned struct{ link.Link }

func (p pinned) close() error { return errors.Join(p.Unpin(), p.Close()) }

// The names of what is pinned, each with an interface's index.
const (
	linkPrefix   = "link-"   // the link on it
	filterPrefix = "filter-" // there is a filter on it
	clsactPrefix = "clsact-" // there is one, and its queueing discipline is ours too
)

func linkPin(index int) string { return linkPrefix + strconv.Itoa(index) }

// Sweep takes off what a run has left that pinned in dir. Without dir there is
// nothing.
func Sweep(dir string) error {
	pins, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var wrong []error
	for _, pin := range pins {
		if index, is := marked(pin.Name()); is {
			if err := sweepFilter(dir, index); err != nil {
				wrong = append(wrong, err)
				continue // the mark says that there is something to remove
			}
		}
		// With its pin goes a link. What has another name would be in the way of each later run.
		wrong = append(wrong, os.Remove(filepath.Join(dir, pin.Name())))
	}
	return errors.Join(append(wrong, os.Remove(dir))...)
}

// marked returns the index of the interface that has a filter, by the name of a pin; false
// if that is not the mark of one.
func marked(pin string) (index int, is bool) {
	kind, number, _ := strings.Cut(pin, "-")
	index, err := strconv.Atoi(number)
	return index, err == nil && (kind+"-" == filterPrefix || kind+"-" == clsactPrefix)
}

// sweepFilter removes the filter that a mark tells of.
func sweepFilter(dir string, index int) error {
	done, err := alone(dir)
	if err != nil {
		return err
	}
	defer done()
	return removeFilters(dir, index)
}
