// Package ports lets all instances of an app bind one port, whether or not the
// app asks for it: three small BPF programs that systemd attaches to each
// instance's control group, because the generated unit names their pins
// (BPFProgram=, systemd.resource-control(5)).
//
// The invariant: a socket that binds a port of its choice gets SO_REUSEPORT; a
// socket that leaves the port to the kernel, and every other socket option, stays
// as the app made it. Sharing a port still takes one user: the kernel lets only
// sockets of the same effective UID bind it together.
package ports
