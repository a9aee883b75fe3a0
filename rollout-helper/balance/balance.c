//go:build ignore

// The programs that balance: one counts the connections of each listener, the other
// picks the listener of a new one by these counts. See doc.go.
//
// The contexts are those of linux/bpf.h, which every kernel keeps as they are:
// nothing here depends on the kernel that it is built for.

// Linux 6.1 lets a program without CAP_PERFMON write only once to a part of a word of
// its stack. So what is on the stack are whole words, or it is in a function that is not
// inlined, and has a stack of its own for each call.

#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

// GROUPS is how many listener groups there may be, ROOM how many listeners one group
// may have. The slots of group g are those from g * ROOM on.
#define GROUPS 64
#define ROOM 256

// ALL is the number of slots up to which each of them is looked at for a new
// connection. Of more, DRAWS are drawn at random, until there are two to compare.
#define ALL 32
#define DRAWS 16

// These differ on no architecture that this is built for.
#define AF_INET 2
#define AF_INET6 10

// The low bits of a slot's state. The bits above them change each time that the slot
// is taken: so nobody changes the state of a slot who means the listener before.
enum { CLOSED, SERVING, CLAIMED, PHASE = 3, TURN = 4 };

// A listener and what is counted of it. Each slot is a cache line.
struct slot {
	__u64 state;
	__u64 cookie;  // of the listener
	__u32 conns;   // established, and not ended by the server
	__u32 waiting; // of these: the client has acknowledged no byte of an answer yet
	__u32 pending; // sent here, and not established yet
	__u32 unused;
	__u64 sent;    // when the last one was sent here, in ns
} __attribute__((aligned(64)));

// The slots are mapped into the helper's memory too, which takes them as on_listen does.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, GROUPS * ROOM);
	__type(key, __u32);
	__type(value, struct slot);
} ar_slots SEC(".maps");

// The listeners, each under the number of its slot. A closed one leaves by itself.
struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, GROUPS * ROOM);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u64));
} ar_registry SEC(".maps");

// Where a listener is bound.
struct address {
	__u64 netns; // its cookie
	__u64 family;
	__u64 port;
	__u64 high, low; // in the order of memory; of IPv4 only low
};

// The groups that are balanced. What listens elsewhere is left alone.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, GROUPS);
	__type(key, struct address);
	__type(value, __u32);
} ar_groups SEC(".maps");

// For each group: 2 n - 1, where n is a power of two and no less than the slots that were
// ever taken; 0 if none was. So many can raise it at the same time.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, GROUPS);
	__type(key, __u32);
	__type(value, __u64);
} ar_used SEC(".maps");

enum { COUNTED = 1, WAITING = 2 };

// What is kept with a socket: a listener's slot, or that of the listener that a
// connection came by, and how it is counted.
struct place {
	__u64 slot;
	__u64 flags;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct place);
} ar_places SEC(".maps");

// How far the pick of one connection has come. No pick interrupts another one on the
// same CPU.
struct scan {
	__u64 now, hash, slots;
	__u64 found;        // how many were compared
	__u64 best, second; // slots
	__u64 least, next;  // what they have to do
	__u64 tie, tie2;
	__u64 state, state2;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scan);
} ar_scan SEC(".maps");

static __noinline struct slot *slot_of(__u32 number)
{
	return bpf_map_lookup_elem(&ar_slots, &number);
}

// used_of tells how many slots of a group are to be looked at.
static __noinline __u64 *used_of(__u32 number)
{
	return bpf_map_lookup_elem(&ar_used, &number);
}

static __noinline struct scan *scan_of_cpu(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&ar_scan, &zero);
}

struct claim {
	__u64 first, cookie;
};

// claim takes a slot that nobody has. One whose listener has closed is kept as long as
// it has connections, which will be taken off there.
static long claim(__u32 i, struct claim *c)
{
	struct slot *s = slot_of(c->first + i);
	__u64 state;

	if (!s)
		return 1;
	state = s->state;
	if ((state & PHASE) != CLOSED || s->conns)
		return 0;
	if (__sync_val_compare_and_swap(&s->state, state, (state + TURN) | CLAIMED) != state)
		return 0;
	s->cookie = c->cookie;
	return 1;
}

// enlist puts a listener into its slot, from where it is picked from now on.
static __noinline int enlist(struct bpf_sock_ops *ctx, __u32 number)
{
	struct slot *s = slot_of(number);
	__u64 *used, most = number % ROOM;
	int flags = BPF_SOCK_OPS_STATE_CB_FLAG;

	if (!s)
		return 0;
	if (bpf_sock_map_update(ctx, &ar_registry, &number, BPF_ANY)) {
		s->state &= ~(__u64)PHASE; // CLOSED
		return 0;
	}
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | flags);
	s->pending = 0;
	used = used_of(number / ROOM);
	if (!used)
		return 0;
	most |= most >> 1;
	most |= most >> 2;
	most |= most >> 4;
	most |= most >> 8;
	__sync_fetch_and_or(used, most << 1 | 1);
	s->state = (s->state & ~(__u64)PHASE) | SERVING;
	return 0;
}

static __always_inline bool address_of(struct bpf_sock_ops *ctx, struct address *a)
{
	a->netns = bpf_get_netns_cookie(ctx);
	a->family = ctx->family;
	a->port = ctx->local_port;
	if (ctx->family == AF_INET) {
		a->high = 0;
		a->low = ctx->local_ip4;
		return true;
	}
	if (ctx->family != AF_INET6)
		return false;
	a->high = (__u64)ctx->local_ip6[0] << 32 | ctx->local_ip6[1];
	a->low = (__u64)ctx->local_ip6[2] << 32 | ctx->local_ip6[3];
	return true;
}

// on_listen enters a new listener of a group that is balanced.
static __always_inline void on_listen(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct address a;
	struct claim c;
	struct place fresh, *p;
	struct slot *s;
	__u64 cookie = bpf_get_socket_cookie(ctx), state;
	__u32 *group, tried;

	p = bpf_sk_storage_get(&ar_places, sk, 0, 0);
	if (p) {
		// It has listened before, or the helper has just entered it.
		s = slot_of(p->slot);
		if (!s || s->cookie != cookie)
			return;
		state = s->state;
		if ((state & PHASE) == CLAIMED)
			return;
		if ((state & PHASE) == CLOSED &&
		    __sync_val_compare_and_swap(&s->state, state, (state + TURN) | CLAIMED) != state)
			return;
		enlist(ctx, p->slot);
		return;
	}
	if (!address_of(ctx, &a))
		return;
	group = bpf_map_lookup_elem(&ar_groups, &a);
	if (!group)
		return;
	c.first = *group * ROOM;
	c.cookie = cookie;
	tried = bpf_loop(ROOM, claim, &c, 0);
	if (tried < 1 || tried > ROOM)
		return;
	fresh.slot = c.first + tried - 1;
	fresh.flags = 0;
	s = slot_of(fresh.slot);
	if (!s || s->cookie != cookie || (s->state & PHASE) != CLAIMED)
		return; // there is no room
	p = bpf_sk_storage_get(&ar_places, sk, &fresh, BPF_SK_STORAGE_GET_F_CREATE);
	if (!p || p->slot != fresh.slot) {
		s->state &= ~(__u64)PHASE; // the helper was faster, or there is no memory
		return;
	}
	enlist(ctx, fresh.slot);
}

static __always_inline void add(__u32 *count, __s32 n) { __sync_fetch_and_add(count, n); }

static __always_inline void on_established(struct bpf_sock_ops *ctx, struct place *p)
{
	int want = BPF_SOCK_OPS_STATE_CB_FLAG | BPF_SOCK_OPS_RTT_CB_FLAG;
	struct slot *s = slot_of(p->slot);
	__u32 pending;

	if (!s || p->flags)
		return;
	// Without these it would never be taken off.
	if (bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | want))
		return;
	p->flags = COUNTED | WAITING;
	add(&s->conns, 1);
	add(&s->waiting, 1);
	pending = s->pending;
	if (pending)
		__sync_val_compare_and_swap(&s->pending, pending, pending - 1);
}

// on_acknowledged is called for each acknowledgement that the round-trip time is
// learned from, until the first byte of an answer was acknowledged.
static __always_inline void on_acknowledged(struct bpf_sock_ops *ctx, struct place *p)
{
	struct slot *s = slot_of(p->slot);

	if (!s || !(p->flags & WAITING) || !ctx->bytes_acked)
		return;
	p->flags = COUNTED;
	add(&s->waiting, -1);
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags & ~BPF_SOCK_OPS_RTT_CB_FLAG);
}

static __always_inline void on_state(struct bpf_sock_ops *ctx, struct place *p)
{
	struct slot *s = slot_of(p->slot);
	__u32 to = ctx->args[1], flags = p->flags;
	__u64 state;

	if (!s)
		return;
	if (ctx->args[0] == BPF_TCP_LISTEN) {
		state = s->state;
		if (s->cookie == bpf_get_socket_cookie(ctx) && (state & PHASE) == SERVING)
			__sync_val_compare_and_swap(&s->state, state, state & ~(__u64)PHASE);
		return;
	}
	// The server has closed it, or it is gone.
	if (to != BPF_TCP_FIN_WAIT1 && to != BPF_TCP_LAST_ACK && to != BPF_TCP_CLOSING && to != BPF_TCP_TIME_WAIT && to != BPF_TCP_CLOSE)
		return;
	if (!(flags & COUNTED))
		return;
	p->flags = 0;
	add(&s->conns, -1);
	if (flags & WAITING)
		add(&s->waiting, -1);
}

// ar_count keeps the counts of all listeners in the slice.
SEC("sockops")
int ar_count(struct bpf_sock_ops *ctx)
{
	__u32 op = ctx->op;
	struct bpf_sock *sk = ctx->sk;
	struct place *p;

	if (!sk)
		return 1;
	if (op == BPF_SOCK_OPS_TCP_LISTEN_CB) {
		on_listen(ctx, sk);
		return 1;
	}
	if (op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB && op != BPF_SOCK_OPS_RTT_CB && op != BPF_SOCK_OPS_STATE_CB)
		return 1;
	p = bpf_sk_storage_get(&ar_places, sk, 0, 0);
	if (!p)
		return 1;
	if (op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		on_established(ctx, p);
	else if (op == BPF_SOCK_OPS_RTT_CB)
		on_acknowledged(ctx, p);
	else
		on_state(ctx, p);
	return 1;
}

// The group whose connections ar_least picks the listeners of. It is set when the
// program is loaded, once for each group.
const volatile __u32 group;

// pending_at is how many connections were sent to a slot and are not established. The
// number halves every 134 ms, for some never are.
static __always_inline __u64 pending_at(struct slot *s, __u64 now)
{
	__u64 halves = now > s->sent ? (now - s->sent) >> 27 : 0;

	return halves > 31 ? 0 : s->pending >> halves;
}

// work is what a slot has to do: first what waits, then the connections.
static __always_inline __u64 work(struct slot *s, __u64 now)
{
	return ((__u64)s->waiting + pending_at(s, now)) << 32 | s->conns;
}

// consider compares a slot with the best two so far. Equal ones are taken by a hash of
// the connection and the slot.
static long consider(__u32 i, void *unused)
{
	struct scan *p = scan_of_cpu();
	struct slot *s;
	__u32 number;
	__u64 w, tie, state;

	if (!p)
		return 1;
	if (p->slots > ALL)
		i = (__u64)bpf_get_prandom_u32() * p->slots >> 32;
	number = group * ROOM + i;
	s = slot_of(number);
	if (!s)
		return 1;
	state = s->state;
	if ((state & PHASE) != SERVING)
		return 0;
	w = work(s, p->now);
	tie = (__u32)((__u32)(p->hash ^ (i + 1) * 0x9e3779b1) * 0x85ebca6b);
	if (!p->found || w < p->least || (w == p->least && tie < p->tie)) {
		p->second = p->best;
		p->next = p->least;
		p->tie2 = p->tie;
		p->state2 = p->state;
		p->best = number;
		p->least = w;
		p->tie = tie;
		p->state = state;
		p->found++;
	} else if (p->found < 2 || w < p->next || (w == p->next && tie < p->tie2)) {
		p->second = number;
		p->next = w;
		p->tie2 = tie;
		p->state2 = state;
		p->found += p->found < 2;
	}
	return p->slots > ALL && p->found >= 2;
}

// send sends the connection to the listener in a slot, and reports whether it could. A
// listener that is gone is picked no more.
static __noinline bool send(struct sk_reuseport_md *md, __u32 number, __u64 state, __u64 now)
{
	struct slot *s = slot_of(number);
	long failed;

	if (!s)
		return false;
	failed = bpf_sk_select_reuseport(md, &ar_registry, &number, 0);
	if (failed) {
		if (failed == -2) // ENOENT
			__sync_val_compare_and_swap(&s->state, state, state & ~(__u64)PHASE);
		return false;
	}
	s->pending = pending_at(s, now) + 1;
	s->sent = now;
	return true;
}

// ar_least picks the listener that has the least to do. Where it picks none, the
// kernel chooses.
SEC("sk_reuseport/migrate")
int ar_least(struct sk_reuseport_md *md)
{
	struct scan *p = scan_of_cpu();
	__u64 *used = used_of(group);
	__u64 found, second, state2, now;
	__u32 slots;

	if (!p || !used)
		return SK_PASS;
	slots = (*used + 1) >> 1;
	if (slots > ROOM)
		slots = ROOM;
	now = bpf_ktime_get_coarse_ns();
	p->now = now;
	p->hash = md->hash;
	p->slots = slots;
	p->found = 0;
	bpf_loop(slots > ALL ? DRAWS : slots, consider, 0, 0);
	found = p->found;
	second = p->second;
	state2 = p->state2;
	if (!found || send(md, p->best, p->state, now) || found < 2)
		return SK_PASS;
	send(md, second, state2, now);
	return SK_PASS;
}

// bpf_sock_map_update() and the others ask for no GPL.
char _license[] SEC("license") = "MIT";
