package sockets

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Wrapper is a process between systemd and a server that keeps the stop signal from
// the server: systemd tells only the main process, and kills all others as soon as
// that has ended.
type Wrapper struct {
	Name   string // as ps(1) shows it
	Main   bool   // it is the unit's main process
	Server string // the name of the process that listens
}

// Wrapped looks at the way from the main process of a unit down to each process that
// holds one of the listeners, in the unit's control group at path. It returns the
// first process on such a way that does not see to it that the server below it can
// stop by itself, nil if there is none: one that ends of the signal, or that is known
// to end before the server does. A main process that listens itself, as that of a
// pre-fork server, is trusted to tell its workers.
//
// It needs CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE for processes of other users.
func Wrapped(path string, main, signal int, listeners []Listener) (*Wrapper, error) {
	pids, err := processes(path)
	if err != nil || len(pids) < 2 || len(listeners) == 0 {
		return nil, err
	}
	inodes := make(map[uint32]bool)
	for _, l := range listeners {
		inodes[l.Inode] = true
	}
	all := make(map[int]process, len(pids))
	for _, pid := range pids {
		p, err := readProcess(pid, inodes)
		if vanished(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if p.pid == main && p.listens {
			return nil, nil
		}
		all[pid] = p
	}
	return wrapper(all, main, signal), nil
}

// process is one process of a unit.
type process struct {
	pid, parent int
	name        string
	takes       uint64 // the signals that it handles or waits for: bit 0 is signal 1
	hasty       bool   // it ends at the signal, without waiting for what it has started
	listens     bool   // it holds one of the listeners
}

// wrapper decides for Wrapped.
func wrapper(all map[int]process, main, signal int) *Wrapper {
	if _, ok := all[main]; !ok {
		return nil
	}
	for _, pid := range slices.Sorted(maps.Keys(all)) {
		server := all[pid]
		// A worker's master is asked instead of the worker.
		if !server.listens || pid == main || all[server.parent].listens {
			continue
		}
		for _, p := range above(all, server, main) {
			if p.hasty || p.takes&(1<<(signal-1)) == 0 {
				return &Wrapper{Name: p.name, Main: p.pid == main, Server: server.name}
			}
		}
	}
	return nil
}

// above are the processes from one's parent up to the main process. If the way does
// not lead there, because a parent has ended, only the main process is above.
func above(all map[int]process, p process, main int) (way []process) {
	for range len(all) {
		parent, ok := all[p.parent]
		if !ok {
			break
		}
		way = append(way, parent)
		if parent.pid == main {
			return way
		}
		p = parent
	}
	return []process{all[main]}
}

// readProcess reads one process: proc_pid_status(5), proc_pid_cmdline(5), and
// proc_pid_fd(5) for the inodes.
func readProcess(pid int, inodes map[uint32]bool) (process, error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return process{}, err
	}
	p, err := parseStatus(string(status))
	if err != nil {
		return process{}, fmt.Errorf("%s/status: %w", dir, err)
	}
	command, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil {
		return process{}, err
	}
	p.hasty = hasty(command)
	fds, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return process{}, err
	}
	for _, fd := range fds {
		target, err := os.Readlink(filepath.Join(dir, "fd", fd.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		if inode, ok := socketInode(target); ok && inodes[inode] {
			p.listens = true
			break
		}
	}
	return p, nil
}

// parseStatus reads the text of /proc/PID/status. A process that blocks a signal
// waits for it in another way than by a handler: tini(1) does.
func parseStatus(text string) (p process, err error) {
	for line := range strings.Lines(text) {
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch field {
		case "Name":
			p.name = value
		case "Pid":
			p.pid, err = strconv.Atoi(value)
		case "PPid":
			p.parent, err = strconv.Atoi(value)
		case "SigBlk", "SigCgt":
			var signals uint64
			signals, err = strconv.ParseUint(value, 16, 64)
			p.takes |= signals
		}
		if err != nil {
			return process{}, err
		}
	}
	return p, nil
}

// hasty tells yarn 1, which hands SIGTERM on, but ends before what it has started, by
// its command line: an interpreter may come first. npm and pnpm wait, though not for a
// server below the sh(1) through which they start it. (Some versions of npm 9 hand
// nothing on; that is not seen if the sh executes the server.)
func hasty(command []byte) bool {
	words := bytes.Split(command, []byte{0})
	for _, w := range words[:min(len(words), 2)] {
		switch name, _, _ := strings.Cut(filepath.Base(string(w)), "."); name {
		case "yarn", "yarnpkg":
			return true
		}
	}
	return false
}
