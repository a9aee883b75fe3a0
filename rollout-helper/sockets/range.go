package sockets

import (
	"fmt"
	"os"
)

// ClientPorts returns the ports that the kernel gives to clients, and to listeners
// that leave the choice to it: net.ipv4.ip_local_port_range of this network
// namespace. If that cannot be read, it is the kernel's default.
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
