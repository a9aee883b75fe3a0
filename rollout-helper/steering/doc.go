// Package steering decides which instances of an app get its new connections
// while a rollout runs, with a BPF program of type sk_reuseport on each of the
// app's listener groups (kernel: net/core/sock_reuseport.c; bpf-helpers(7):
// bpf_sk_select_reuseport).
//
// The invariant: while a group is steered, a new connection reaches a serving
// socket as long as one is open; it reaches a candidate only if it comes from an
// address and port of ours that is asking that candidate, and then that
// candidate or none. A switch from one serving set to another is one word that is
// written per group: each connection sees the old set or the new one, never none.
//
// The program (pick.c) is the same for every group; what differs is in maps, and
// each group has maps of its own:
//
//	ar_listeners  the app's sockets in the group, each in a slot, serving or not
//	ar_lists      two lists of slots: one is in force, the other is written anew
//	ar_policy     the word that puts one of the lists in force
//	ar_asks       who asks which slot
//
// A socket that is in no list is held, whoever put it into its slot.
//
// Each group having its own program and maps has three reasons. The kernel tells
// the program's group exactly: by family, address and port a program could not tell
// a listener on [::] that takes IPv4 from one that does not. No app can use up the
// room of another. And all of it is freed with the last process or socket that
// holds it.
//
// If every serving socket of a group is gone, the kernel chooses among the
// sockets that are left, as if nothing were steered: a connection is better
// answered by a candidate than refused.
//
// The programs stay with the sockets if this process dies: Detach takes them
// off again.
package steering
