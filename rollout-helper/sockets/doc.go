// Package sockets tells who listens and who is connected: the kernel's own
// view, read over NETLINK_SOCK_DIAG (sock_diag(7)), with the control group that
// each socket was made in. A View is one such look. The package only reads; it
// changes no socket.
//
// The invariant: a socket belongs to the instance whose control group it was
// made in, whatever process holds it now. An accepted connection belongs to the
// instance whose listener took it.
//
// Everything here is seen from the network namespace of the calling thread.
package sockets
