// Package vm boots Debian releases as virtual machines: their own kernel, initrd and
// systemd on a disk of their own, as on a server. The containers of the stories share
// the host's kernel; a virtual machine has the kernel that users have.
//
// The tests proper run inside, in the program in test/vm/guest, which writes
// what it finds to the second serial port. No network is needed but a port on the
// loopback interface. `sudo make vm` runs it all.
package vm
