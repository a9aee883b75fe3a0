// Package ports lets all instances of an app bind one port, whether or not the
// app asks for it: three small BPF programs (share.c) on the control group of the
// slice that all instances run in (Slice= of the generated units).
//
// They are attached to the slice by links that are pinned in a bpffs, not to
// each instance by systemd's BPFProgram=. What systemd attaches it takes off
// again for a moment at every daemon-reload, and systemd 252 does not put it
// back when a service restarts by itself: an instance that binds just then does
// not share the port. A pinned link stays as long as the slice does.
//
// What is pinned outlives the version of the package that pinned it. Beside the
// links a small map is pinned that tells which build made them (build.go). An upgrade
// touches nothing; the next rollout puts its own programs into the links, each in one
// act of the kernel's, so that an instance can bind at any moment.
//
// The invariant: a socket that binds a port of its choice gets SO_REUSEPORT; a
// socket that leaves the port to the kernel, and every other socket option, stays
// as the app made it. Sharing a port still takes one user: the kernel lets only
// sockets of the same effective UID bind it together.
package ports
