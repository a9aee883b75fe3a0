package sockets

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Path is a Unix socket that listens under a name in the file system.
type Path struct {
	Name  string
	Inode uint32 // of the socket, not of the file
}

// The wire format of linux/unix_diag.h.
const (
	unixRequestSize = 24 // struct unix_diag_req
	unixRowSize     = 16 // struct unix_diag_msg
	unixShowName    = 1  // UDIAG_SHOW_NAME
	unixAttrName    = 0  // UNIX_DIAG_NAME
)

// Paths returns, for each of the control groups, the Unix sockets with a name in the
// file system that its processes listen on. The kernel does not say to which control
// group a Unix socket belongs, so it is looked for among the processes' descriptors. A
// kernel that does not tell of Unix sockets (CONFIG_UNIX_DIAG) shows none.
func Paths(cgroups ...string) ([][]Path, error) {
	paths := make([][]Path, len(cgroups))
	names, err := unixListeners()
	if err != nil || len(names) == 0 {
		return paths, err
	}
	for i, cgroup := range cgroups {
		pids, err := processes(cgroup)
		if err != nil {
			return nil, err
		}
		held := make(map[uint32]bool)
		for _, pid := range pids {
			if err := inodesOf(pid, held); err != nil {
				return nil, err
			}
		}
		for _, inode := range slices.Sorted(maps.Keys(held)) {
			if name := names[inode]; name != "" {
				paths[i] = append(paths[i], Path{name, inode})
			}
		}
	}
	return paths, nil
}

// inodesOf adds the inodes of the sockets that a process holds. A process that
// vanishes holds none.
func inodesOf(pid int, held map[uint32]bool) error {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	entries, err := os.ReadDir(dir)
	if vanished(err) {
		return nil
	}
	for _, entry := range entries {
		target, err := os.Readlink(filepath.Join(dir, entry.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		if inode, ok := socketInode(target); ok {
			held[inode] = true
		}
	}
	return err
}

// unixListeners are the names in the file system of the Unix sockets that listen in
// this network namespace, by the sockets' inodes.
func unixListeners() (map[uint32]string, error) {
	conn, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, nil)
	if err != nil {
		return nil, fmt.Errorf("sock_diag: %w", err)
	}
	defer conn.Close()
	request := make([]byte, unixRequestSize)
	request[0] = unix.AF_UNIX
	binary.NativeEndian.PutUint32(request[4:], 1<<stateListen)
	binary.NativeEndian.PutUint32(request[12:], unixShowName)
	answers, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: sockDiagByFamily, Flags: netlink.Request | netlink.Dump},
		Data:   request,
	})
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("sock_diag: %w", err)
	}
	names := make(map[uint32]string)
	for _, answer := range answers {
		if answer.Header.Type != sockDiagByFamily {
			continue
		}
		if len(answer.Data) < unixRowSize {
			return nil, fmt.Errorf("sock_diag: a row of %d bytes, want %d or more", len(answer.Data), unixRowSize)
		}
		attrs, err := netlink.NewAttributeDecoder(answer.Data[unixRowSize:])
		if err != nil {
			return nil, fmt.Errorf("sock_diag: %w", err)
		}
		for attrs.Next() {
			if attrs.Type()&attrTypeMask != unixAttrName {
				continue
			}
			// An abstract name begins with a NUL.
			if name, _, _ := bytes.Cut(attrs.Bytes(), []byte{0}); len(name) > 0 {
				names[binary.NativeEndian.Uint32(answer.Data[4:])] = string(name)
			}
		}
		if err := attrs.Err(); err != nil {
			return nil, fmt.Errorf("sock_diag: %w", err)
		}
	}
	return names, nil
}
