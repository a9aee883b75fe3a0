//go:build ignore

// The programs that let all instances of an app bind one port. They hang on the
// control group of the slice that the instances run in; see doc.go.
//
// The contexts are those of linux/bpf.h, which every kernel keeps as they are:
// nothing here depends on the kernel that it is built for.

#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>

// Numbers that differ between architectures, while this object does not: MIPS has
// its own. They are set when the programs are loaded.
const volatile int sol_socket, so_reuseport, sock_stream, sock_dgram;

enum { REFUSE, ALLOW };

static __always_inline int shareable(struct bpf_sock_addr *ctx)
{
	if (!ctx->user_port)
		return 0; // the kernel chooses the port: an outgoing connection, perhaps
	if ((int)ctx->type == sock_stream)
		return !ctx->protocol || ctx->protocol == IPPROTO_TCP;
	if ((int)ctx->type == sock_dgram)
		return !ctx->protocol || ctx->protocol == IPPROTO_UDP;
	return 0;
}

// share sets SO_REUSEPORT on a TCP or UDP socket that binds a port of its choice.
// It allows every bind, and an option that cannot be set is no reason to refuse it.
static __always_inline int share(struct bpf_sock_addr *ctx)
{
	int one = 1;

	if (shareable(ctx))
		bpf_setsockopt(ctx, sol_socket, so_reuseport, &one, sizeof(one));
	return ALLOW;
}

SEC("cgroup/bind4")
int ar_bind4(struct bpf_sock_addr *ctx)
{
	return share(ctx);
}

SEC("cgroup/bind6")
int ar_bind6(struct bpf_sock_addr *ctx)
{
	return share(ctx);
}

// ar_sock_create refuses Multipath TCP sockets with EPERM: they can neither share
// a port under our control nor be steered. Go (1.24 and later) listens with
// Multipath TCP where it can, and takes plain TCP where it cannot.
SEC("cgroup/sock_create")
int ar_sock_create(struct bpf_sock *ctx)
{
	return ctx->protocol == IPPROTO_MPTCP ? REFUSE : ALLOW;
}

// None of the helper functions asks for the GPL.
char _license[] SEC("license") = "MIT";
