package ports

import (
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

//go:generate go tool bpf2go -target bpfel,bpfeb share share.c -- -mcpu=v3 -Wall -Werror

// The names of the pins.
const (
	Bind4      = "bind4"
	Bind6      = "bind6"
	SockCreate = "sock_create"
)

// pins are the names of the pins and, for each, of its program in share.c.
var pins = [...]struct{ name, program string }{
	{Bind4, "ar_bind4"},
	{Bind6, "ar_bind6"},
	{SockCreate, "ar_sock_create"},
}

// programs is what share.c was compiled to, with this architecture's numbers.
func programs() (*ebpf.CollectionSpec, error) {
	spec, err := loadShare()
	if err != nil {
		return nil, err
	}
	spec.Maps[".rodata"].Name = "ar_ports_const"
	for name, number := range map[string]int32{
		"sol_socket": unix.SOL_SOCKET, "so_reuseport": unix.SO_REUSEPORT,
		"sock_stream": unix.SOCK_STREAM, "sock_dgram": unix.SOCK_DGRAM,
	} {
		if err := spec.Variables[name].Set(number); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return spec, nil
}
