// Package balance has the kernel send each new connection of an app to the instance
// that has the least to do: the fewest connections that wait for an answer, then the
// fewest connections. It takes two BPF programs (balance.c), and no process of ours
// between two rollouts.
//
// ar_count (type sock_ops) hangs on the control group of the slice that the instances
// run in. It is called for each listener there and for each connection that came by
// one (net/ipv4/af_inet.c: inet_listen; net/ipv4/tcp_input.c: tcp_init_transfer,
// tcp_rtt_estimator; net/ipv4/tcp.c: tcp_set_state). It counts in shared memory, and it
// lets in the listeners of instances that systemd restarts. ar_least (type
// sk_reuseport) is on each listener group that is balanced, and picks by these counts.
//
// The invariants:
//
//   - Only listeners in a group that Keep was called for are counted, and connections
//     that came by them. All else on the machine is left alone.
//   - Each connection that was counted is taken off once, where it was counted,
//     however it ends. So the counts of a group without connections are 0.
//   - A connection that cannot be sent where it should go is sent to the second best,
//     and if that fails too, where the kernel's hash says. None is lost for the
//     balance.
//
// A connection waits until its client has acknowledged the first byte of an answer. Of
// a later request on the same connection nothing is seen. A connection that moves to
// another listener while it waits in the queue of one that closes (
// net.ipv4.tcp_migrate_req) stays counted where it was; so do those that a rollout
// moves.
//
// When all listeners of a group have closed, the kernel forgets ar_least: those that
// come then are chosen by its hash, until Keep is called again.
//
// What is needed later is pinned in a bpffs. The pins of each build of the programs lie
// in a directory of their own (pin.go): what an older build has attached goes on as it
// was, until the next rollout of each app.
package balance
