package closing

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Before Linux 6.6 a program is attached by a filter of the clsact queueing
// discipline (tc-bpf(8)).

// priority is the filters' place: the first.
const priority = 1

// filtering is a hook that is a filter. It stays when the helper is killed: the pin
// says so.
type filtering struct {
	dir   string
	index int
}

// alone waits until no other process or goroutine changes queueing disciplines for us:
// all apps share them.
func alone(dir string) (done func() error, err error) {
	f, err := os.Open(filepath.Dir(dir))
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return f.Close, nil
}

// filter attaches ar_tell to an interface by a filter.
func (c *Closing) filter(index int) (hook, error) {
	done, err := alone(c.dir)
	if err != nil {
		return nil, err
	}
	defer done()
	return c.addFilter(index)
}

func (c *Closing) addFilter(index int) (hook, error) {
	f := &filtering{dir: c.dir, index: index}
	if err := c.discipline(index, netlink.QdiscAdd); err != nil {
		return nil, errors.Join(err, f.remove())
	}
	err := netlink.FilterAdd(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: index,
			Parent:    netlink.HANDLE_MIN_EGRESS,
			Protocol:  unix.ETH_P_ALL,
			Priority:  priority,
		},
		Fd:           c.objects.ArTell.FD(),
		Name:         filterName(c.dir),
		DirectAction: true,
	})
	if errors.Is(err, unix.EINVAL) {
		err = fmt.Errorf("a filter of another kind may have the first place there: %w", err)
	}
	if err != nil {
		return nil, errors.Join(err, f.remove())
	}
	return f, nil
}

// discipline sees to it that an interface has the queueing discipline, and to the mark that
// says whether it is ours. The mark comes first: a killed run leaves none of ours without.
func (c *Closing) discipline(index int, add func(netlink.Qdisc) error) error {
	others := madeByUs(c.dir, index)
	there, err := c.hasDiscipline(index)
	if err != nil {
		return err
	}
	ours := others || !there
	if err := mark(c.objects.ArTell, c.dir, index, ours); err != nil {
		return err
	}
	err = add(clsact(index))
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	// Somebody may have made or removed one since it was looked for.
	if made := err == nil || others; made != ours {
		if err := unmark(c.dir, index); err != nil {
			return err
		}
		return mark(c.objects.ArTell, c.dir, index, made)
	}
	return nil
}

// hasDiscipline says whether an interface has had one when all were listed.
func (c *Closing) hasDiscipline(index int) (bool, error) {
	if c.disciplines == nil {
		all, err := netlink.QdiscList(nil)
		if err != nil {
			return false, fmt.Errorf("listing the queueing disciplines: %w", err)
		}
		c.disciplines = make(map[int]bool)
		for _, q := range all {
			if q.Type() == "clsact" {
				c.disciplines[q.Attrs().LinkIndex] = true
			}
		}
	}
	return c.disciplines[index], nil
}

// mark pins a name that says that there is a filter, and whether the queueing
// discipline is ours.
func mark(program *ebpf.Program, dir string, index int, made bool) error {
	name := filterPrefix
	if made {
		name = clsactPrefix
	}
	// To pin a program a second time would rename the first pin.
	clone, err := program.Clone()
	if err != nil {
		return err
	}
	defer clone.Close()
	return clone.Pin(filepath.Join(dir, name+strconv.Itoa(index)))
}

// madeByUs says whether the queueing discipline was made for another app, whose
// directory lies beside dir.
func madeByUs(dir string, index int) bool {
	marks, err := filepath.Glob(filepath.Join(filepath.Dir(dir), "*", clsactPrefix+strconv.Itoa(index)))
	return err == nil && len(marks) > 0
}

func (f *filtering) close() error {
	done, err := alone(f.dir)
	if err != nil {
		return err
	}
	defer done()
	return f.remove()
}

func (f *filtering) remove() error {
	if err := removeFilters(f.dir, f.index); err != nil {
		return err
	}
	return unmark(f.dir, f.index)
}

func unmark(dir string, index int) error {
	for _, prefix := range []string{filterPrefix, clsactPrefix} {
		if err := os.Remove(filepath.Join(dir, prefix+strconv.Itoa(index))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// filterName is how a filter is told from those of other apps.
func filterName(dir string) string { return "app-rollout-" + filepath.Base(dir) }

func clsact(index int) *netlink.GenericQdisc {
	return &netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: index,
			Handle:    netlink.MakeHandle(0xffff, 0),
			Parent:    netlink.HANDLE_CLSACT,
		},
		QdiscType: "clsact",
	}
}

// removeFilters removes the filters that the marks in dir tell of, and the queueing
// discipline if it is ours and has no other. An interface that is gone took them along.
func removeFilters(dir string, index int) error {
	at := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: index}}
	filters, err := netlink.FilterList(at, netlink.HANDLE_MIN_EGRESS)
	if gone(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listing the filters of the network interface %d: %w", index, err)
	}
	others := 0
	for _, f := range filters {
		if bpf, is := f.(*netlink.BpfFilter); !is || bpf.Name != filterName(dir) {
			others++
			continue
		}
		if err := netlink.FilterDel(f); err != nil && !gone(err) {
			return fmt.Errorf("removing the filter of the network interface %d: %w", index, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, clsactPrefix+strconv.Itoa(index))); err != nil {
		return nil
	}
	ingress, err := netlink.FilterList(at, netlink.HANDLE_MIN_INGRESS)
	if err != nil || others+len(ingress) > 0 {
		return err
	}
	if err := netlink.QdiscDel(clsact(index)); err != nil && !gone(err) {
		return fmt.Errorf("removing the clsact of the network interface %d: %w", index, err)
	}
	return nil
}

// gone says whether an error means that there is no such interface, queueing discipline
// or filter.
func gone(err error) bool {
	return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT)
}
