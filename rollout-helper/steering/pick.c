//go:build ignore

// The program that picks the socket of a new connection, in one listener group.
// Each steered group has this program with maps of its own; see doc.go.
//
// The context is that of linux/bpf.h, which every kernel keeps as it is: nothing
// here depends on the kernel that it is built for.

#include <stddef.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

// PROBES is how many sockets of a list are tried before the choice is left to the
// kernel. Only sockets that have closed since the helper's last look are tried in
// vain.
#define PROBES 64

// The sockets of the group, serving or not, each in a slot of its own. A socket
// leaves its slot by itself when it closes. The number of slots is set when the
// map is made. The sizes stand here without types: the kernel takes none for such a
// map, and to find that out takes 20 ms.
struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u64));
} ar_listeners SEC(".maps");

// Two lists of slots, entry by entry beside each other: entry i of list l has the
// key 2 * i + l. Entry 0 is the length, the slots follow, and then the first PROBES
// of them again (and again, if there are fewer), so that no probe has to wrap
// round. The helper writes the list that is not in force, and then puts it in
// force. The number of entries here is that for no slots; the helper adds theirs.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2 * (1 + PROBES));
	__type(key, __u32);
	__type(value, __u32);
} ar_lists SEC(".maps");

// One word: how many of 256 new connections list 1 gets; list 0 gets the rest.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} ar_policy SEC(".maps");

// A client that asks one instance. The address is in network order, an IPv4 address
// in the first four bytes; the protocol is ETH_P_IP or ETH_P_IPV6. The numbers are
// whole words: Linux 6.1 lets a program without CAP_PERFMON write only once to a word
// of its stack that holds a register.
struct client {
	__u8 address[16];
	__u64 port;
	__u64 protocol;
};

// The slot that each asking client is sent to.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, struct client);
	__type(value, __u32);
} ar_asks SEC(".maps");

// asked returns the slot that this connection asks for, NULL if it asks for none.
// A connection that moves from a closed listener may come without a packet: it
// asks for none.
static __always_inline __u32 *asked(struct sk_reuseport_md *md)
{
	struct client client = {};
	__be16 *source = md->data; // the TCP header begins with the source port
	long failed;

	if ((void *)(source + 1) > md->data_end)
		return NULL;
	client.port = bpf_ntohs(*source);
	client.protocol = bpf_ntohs(md->eth_protocol);
	if (client.protocol == ETH_P_IP)
		failed = bpf_skb_load_bytes_relative(md, offsetof(struct iphdr, saddr), client.address, 4, BPF_HDR_START_NET);
	else if (client.protocol == ETH_P_IPV6)
		failed = bpf_skb_load_bytes_relative(md, offsetof(struct ipv6hdr, saddr), client.address, 16, BPF_HDR_START_NET);
	else
		return NULL;
	if (failed)
		return NULL;
	return bpf_map_lookup_elem(&ar_asks, &client);
}

// pick selects a socket of a list by the connection's hash. If that one has
// closed, it takes the next that is open. If none is, it selects nothing.
//
// It is not static, so that the verifier looks at it once, and not once for each
// call. The loop is unrolled: without CAP_PERFMON the verifier also follows what a
// CPU may do speculatively, and finds no end in a loop.
__noinline int pick(struct sk_reuseport_md *md, __u32 list)
{
	__u32 key = list, *entry = bpf_map_lookup_elem(&ar_lists, &key);
	__u32 first, probe;

	if (!entry || !*entry)
		return 0;
	first = 1 + ((__u64)md->hash * *entry >> 32);
#pragma unroll
	for (probe = 0; probe < PROBES; probe++) {
		key = 2 * (first + probe) + list;
		entry = bpf_map_lookup_elem(&ar_lists, &key);
		if (!entry)
			return 0;
		key = *entry;
		if (!bpf_sk_select_reuseport(md, &ar_listeners, &key, 0))
			return 0;
	}
	return 0;
}

SEC("sk_reuseport/migrate")
int ar_pick(struct sk_reuseport_md *md)
{
	__u32 zero = 0, slot, *asks;
	volatile __u32 *policy;
	int round;

	asks = asked(md);
	if (asks) {
		slot = *asks;
		// If the one that is asked is gone, nobody may answer in its place.
		return bpf_sk_select_reuseport(md, &ar_listeners, &slot, 0) ? SK_DROP : SK_PASS;
	}

	policy = bpf_map_lookup_elem(&ar_policy, &zero);
	if (!policy)
		return SK_PASS;
	// If the policy changed meanwhile, what was picked may belong to neither list,
	// for the helper may write the other one anew from now on: pick again.
	for (round = 0; round < 2; round++) {
		__u32 share = *policy;

		pick(md, (md->hash & 255) < share);
		if (*policy == share)
			break;
	}
	return SK_PASS; // with no socket selected: the kernel chooses
}

// None of the helper functions asks for the GPL.
char _license[] SEC("license") = "MIT";
