package sockets

import (
	"fmt"
	"os"
)

// ClientPorts is net.ipv4.ip_local_port_range, of this network namespace: the
// ports that the kernel gives to whoever leaves the choice to it, clients and
// listeners; its own default if it cannot be read.
func ClientPorts() (first, last uint16) {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err == nil {
		_, err = fmt.Sscan(string(text), &first, &last)
	}
	if err != nil {
		return 32768, 60999
	}
	return first, last
}
