package sockets

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// UntilFree tries to put a socket into a BPF map, for up to two seconds while the kernel
// says EBUSY. Version 0.1.0 of this package put sockets into a map of another kind, and a
// socket cannot be in both. When that program is taken off, the kernel clears its map away
// later.
func UntilFree(try func() error) error {
	deadline := time.Now().Add(2 * time.Second)
	for {
		err := try()
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(2 * time.Millisecond)
	}
}
