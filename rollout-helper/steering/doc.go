// Package steering decides which instances of an app get its new connections
// while a rollout runs, with a BPF program of type sk_reuseport on each of the
// app's listener groups (kernel: net/core/sock_reuseport.c; bpf-helpers(7):
// bpf_sk_select_reuseport).
//
// The invariant: while a group is steered, a new connection reaches a serving
// socket as long as one is open; it reaches a candidate only if it comes from an
// address and port of ours that is asking that candidate, and then that
// candidate or none. A switch from one serving set to another is one
// setsockopt(2) per group, atomic in the kernel: each connection sees the old
// set or the new one, never none.
//
// If every serving socket of a group is gone, the kernel chooses among the
// sockets that are left, as if nothing were steered: a connection is better
// answered by a candidate than refused.
//
// The programs stay with the sockets if this process dies: Detach takes them
// off again.
package steering
