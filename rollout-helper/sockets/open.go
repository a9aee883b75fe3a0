package sockets

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Socket is a file descriptor of our own for a listening socket of another
// process. As long as it is open the socket stays a listener, even when its
// process closes it or dies: close it at once after use.
//
// The descriptor shares its flags with the process's own, so it is never put
// into an os.File, which could change them.
type Socket struct {
	Listener
	fd int
}

// FD returns the file descriptor, valid until Close.
func (s *Socket) FD() int { return s.fd }

// Close gives the descriptor back; the process's own is left alone.
func (s *Socket) Close() error { return unix.Close(s.fd) }

// Close closes all the sockets.
func Close(sockets []*Socket) {
	for _, s := range sockets {
		s.Close()
	}
}

// Open returns file descriptors of those of the wanted listeners that processes
// in the control group at path hold, each listener once. Those that are gone by
// now are left out. It needs CAP_SYS_PTRACE, for pidfd_getfd(2).
func Open(path string, wanted []Listener) ([]*Socket, error) {
	missing := make(map[uint32]Listener, len(wanted))
	for _, l := range wanted {
		missing[l.Inode] = l
	}
	pids, err := processes(path)
	if err != nil {
		return nil, err
	}
	var opened []*Socket
	for _, pid := range pids {
		if len(missing) == 0 {
			break
		}
		found, err := openOf(pid, missing)
		opened = append(opened, found...)
		if err != nil {
			Close(opened)
			return nil, err
		}
	}
	return opened, nil
}

// openOf opens the missing listeners that one process holds, and takes them off
// the map. A process that vanishes holds none.
func openOf(pid int, missing map[uint32]Listener) ([]*Socket, error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	entries, err := os.ReadDir(dir)
	if vanished(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	pidfd := -1
	var opened []*Socket
	for _, entry := range entries {
		target, err := os.Readlink(filepath.Join(dir, entry.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		inode, ok := socketInode(target)
		if !ok {
			continue
		}
		listener, ok := missing[inode]
		if !ok {
			continue
		}
		if pidfd < 0 {
			pidfd, err = unix.PidfdOpen(pid, 0)
			if vanished(err) {
				return opened, nil
			}
			if err != nil {
				return opened, fmt.Errorf("pidfd_open of process %d: %w", pid, err)
			}
			defer unix.Close(pidfd)
		}
		number, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		fd, err := unix.PidfdGetfd(pidfd, number, 0)
		if vanished(err) || errors.Is(err, unix.EBADF) {
			continue
		}
		if err != nil {
			return opened, fmt.Errorf("pidfd_getfd of process %d: %w", pid, err)
		}
		// Another file may have come under this number, another process under
		// this pid.
		if cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE); err != nil || cookie != listener.Cookie {
			unix.Close(fd)
			continue
		}
		delete(missing, inode)
		opened = append(opened, &Socket{Listener: listener, fd: fd})
	}
	return opened, nil
}

// vanished reports whether the error means that the process is gone.
func vanished(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
}

// socketInode reads the target of a link in /proc/PID/fd: socket:[1234].
func socketInode(target string) (uint32, bool) {
	number, ok := strings.CutPrefix(target, "socket:[")
	if !ok {
		return 0, false
	}
	inode, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 32)
	return uint32(inode), err == nil
}

// Elsewhere reports whether a process in the control group at path lives in
// another network namespace than the calling thread, which then cannot see its
// listeners.
func Elsewhere(path string) (bool, error) {
	own, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return false, err
	}
	pids, err := processes(path)
	if err != nil {
		return false, err
	}
	for _, pid := range pids {
		theirs, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "ns/net"))
		if vanished(err) {
			continue
		}
		if err != nil {
			return false, err
		}
		if theirs != own {
			return true, nil
		}
	}
	return false, nil
}
