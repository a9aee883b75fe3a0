//go:build ignore

// The programs that tell kept-alive clients to close; see doc.go.
//
// The contexts are those of linux/bpf.h, which every kernel keeps as they are:
// nothing here depends on the kernel that it is built for.

#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "scan.h"

// PASS is what ar_tell answers: whoever comes next in this place decides. It is
// TCX_NEXT where programs are attached by links, and TC_ACT_UNSPEC in a filter.
#define PASS (-1)

// ALLOW is what ar_hear answers.
#define ALLOW 1

// The state of a conversation.
enum phase {
	RESTING,  // nothing was heard since the last answer, or we have lost the thread
	HEARING,  // a request's head is coming in
	ASKED,    // it is complete, and nothing was answered
	FOREIGN,  // nothing is to be told on it any more: it speaks no HTTP/1, or all is said
	TOLD,     // the client was told to close
};

// A conversation is one connection with a client. It lies at the socket, and goes
// with it.
struct conversation {
	__u64 phase;
	__u64 next;    // HEARING: the sequence number of the request's next byte
	__u64 answer;  // the sequence number that the answer will begin with
	__u64 end;     // that of the first byte after the request
	__u64 chunked; // the request's end is not known before it has come
	__u64 line, size; // TOLD: the sequence number of the line that was changed, and its length
	// The heads of the request and of the answer. They lie here, and not on the stack,
	// because the verifier would follow each value that they can take there.
	struct scan request, reply;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct conversation);
} ar_talks SEC(".maps");

// What was counted: connections that were told to close, those of which the answer
// said so by itself, and answers in which nothing could be given up.
enum { COUNT_TOLD, COUNT_CLOSING, COUNT_UNTOLD, COUNTS };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, COUNTS);
	__type(key, __u32);
	__type(value, __u64);
} ar_told SEC(".maps");

static __always_inline void count(__u32 what)
{
	__u64 *counter = bpf_map_lookup_elem(&ar_told, &what);

	if (counter)
		__sync_fetch_and_add(counter, 1);
}

// The functions that follow are not inlined. Each has its own stack then: without
// CAP_PERFMON a word of the stack that has held a pointer may not be used for bytes
// later.

// before compares sequence numbers, which wrap round.
static __always_inline bool before(__u64 a, __u64 b)
{
	return (__s32)((__u32)a - (__u32)b) < 0;
}

// A segment is what TCP carries in a packet. Positions count from the packet's
// beginning.
struct segment {
	__u64 tcp, payload; // where they begin
	__u64 size;         // of the payload, in bytes
	__u64 seq, ack;
};

// read_segment takes a TCP packet apart, in which the network header stands at this
// place. It returns false if there is no payload.
static __noinline bool read_segment(struct __sk_buff *skb, __u32 network, struct segment *s)
{
	struct tcphdr tcp;
	__u16 fragment;
	__u8 first, next;

	if (bpf_skb_load_bytes(skb, network, &first, 1))
		return false;
	if (first >> 4 == 4) {
		// A fragment has no TCP header, or not all of the segment.
		if (bpf_skb_load_bytes(skb, network + offsetof(struct iphdr, frag_off), &fragment, 2) ||
		    fragment & bpf_htons(0x3fff))
			return false;
		if (bpf_skb_load_bytes(skb, network + offsetof(struct iphdr, protocol), &next, 1))
			return false;
		s->tcp = network + (first & 15) * 4;
	} else if (first >> 4 == 6) {
		if (bpf_skb_load_bytes(skb, network + offsetof(struct ipv6hdr, nexthdr), &next, 1))
			return false;
		s->tcp = network + sizeof(struct ipv6hdr);
	} else {
		return false;
	}
	if (next != IPPROTO_TCP)
		return false;
	if (bpf_skb_load_bytes(skb, s->tcp, &tcp, sizeof(tcp)))
		return false;
	s->payload = s->tcp + tcp.doff * 4;
	if (skb->len <= s->payload)
		return false;
	s->size = skb->len - s->payload;
	s->seq = bpf_ntohl(tcp.seq);
	s->ack = bpf_ntohl(tcp.ack_seq);
	return true;
}

// What a packet may begin with.
enum beginning { SOMETHING, REQUEST, ANOTHER_PROTOCOL };

// begins says whether these bytes are a method and the beginning of a path (RFC 9112,
// 3.2.1). CONNECT, which opens a tunnel, asks for no path; nor does PRI, the preface of
// HTTP/2. What comes after these may look like HTTP/1, but is something else.
static __noinline int begins(struct __sk_buff *skb, const struct segment *s)
{
	bool found = false, method = true;
	__u8 text[12];
	int i;

	if (s->size < sizeof(text) ||
	    bpf_skb_load_bytes(skb, s->payload, text, sizeof(text)))
		return SOMETHING;
	if (text[0] == 'C' && text[1] == 'O' && text[2] == 'N' && text[3] == 'N' && text[4] == 'E' &&
	    text[5] == 'C' && text[6] == 'T' && text[7] == ' ')
		return ANOTHER_PROTOCOL;
	if (text[0] == 'P' && text[1] == 'R' && text[2] == 'I' && text[3] == ' ' && text[4] == '*')
		return ANOTHER_PROTOCOL;
#pragma unroll
	for (i = 0; i < 11; i++) {
		if (method && i >= 3 && text[i] == ' ' && text[i + 1] == '/')
			found = true;
		method = method && text[i] >= 'A' && text[i] <= 'Z';
	}
	return found ? REQUEST : SOMETHING;
}

// The kinds of TCP options with which a packet must not be changed.
#define OPTION_END 0
#define OPTION_NOTHING 1
#define OPTION_MD5 19      // RFC 2385: the packet is signed
#define OPTION_AO 29       // RFC 5925: so it is
#define OPTION_MULTIPATH 30 // RFC 8684: the data may have a checksum of its own

struct options {
	struct __sk_buff *skb;
	__u64 at, end; // in the packet
	__u64 found;
};

static long option(__u32 index, struct options *o)
{
	__u8 kind, size;

	if (o->at >= o->end || bpf_skb_load_bytes(o->skb, o->at, &kind, 1) || kind == OPTION_END)
		return 1;
	if (kind == OPTION_NOTHING) {
		o->at++;
		return 0;
	}
	if (kind == OPTION_MD5 || kind == OPTION_AO || kind == OPTION_MULTIPATH) {
		o->found = 1;
		return 1;
	}
	if (bpf_skb_load_bytes(o->skb, o->at + 1, &size, 1) || size < 2)
		return 1;
	o->at += size;
	return 0;
}

// untouchable says whether the packet has an option that its change would belie.
static __noinline bool untouchable(struct __sk_buff *skb, const struct segment *s)
{
	struct options o = {.skb = skb, .at = s->tcp + sizeof(struct tcphdr), .end = s->payload};

	bpf_loop(40, option, &o, 0); // there is room for so many bytes
	return o.found;
}

// hear reads on in the head of a request.
static __noinline void hear(struct __sk_buff *skb, const struct segment *s, struct conversation *talk)
{
	struct walk walk = {.skb = skb, .scan = &talk->request, .from = s->payload};
	__u64 read = talk->request.at, size = s->size;

	if (size > HEAD)
		size = HEAD;
	bpf_loop(size, walk_byte, &walk, 0);
	// Of a length of more than 1 GiB the end could not be told, since the numbers wrap.
	if (talk->request.broken || talk->request.at > HEAD || talk->request.length >> 30) {
		talk->phase = RESTING;
		return;
	}
	if (!talk->request.ended) {
		talk->next = s->seq + s->size;
		return;
	}
	talk->end = s->seq + (talk->request.at - read) + talk->request.length;
	talk->chunked = talk->request.chunked;
	talk->phase = ASKED;
}

// chunks_end says whether the last chunk of a body ends with this packet.
static __noinline bool chunks_end(struct __sk_buff *skb, const struct segment *s)
{
	__u8 text[5];

	if (s->size < sizeof(text) ||
	    bpf_skb_load_bytes(skb, s->payload + s->size - sizeof(text), text, sizeof(text)))
		return false;
	return text[0] == '0' && text[1] == '\r' && text[2] == '\n' && text[3] == '\r' && text[4] == '\n';
}

// ar_hear sees what the instances that drain receive. It changes nothing.
SEC("cgroup_skb/ingress")
int ar_hear(struct __sk_buff *skb)
{
	struct conversation *talk;
	struct bpf_tcp_sock *tcp;
	struct segment s = {};
	struct bpf_sock *sk = skb->sk;
	int beginning;

	if (!sk)
		return ALLOW;
	sk = bpf_sk_fullsock(sk);
	if (!sk || sk->state != BPF_TCP_ESTABLISHED)
		return ALLOW;
	tcp = bpf_tcp_sock(sk);
	if (!tcp)
		return ALLOW;
	if (!read_segment(skb, 0, &s))
		return ALLOW;
	talk = bpf_sk_storage_get(&ar_talks, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!talk || talk->phase == TOLD || talk->phase == FOREIGN)
		return ALLOW;

	if (talk->phase == HEARING && (__u32)s.seq == (__u32)talk->next) {
		hear(skb, &s, talk);
		goto heard;
	}
	// What has been received before says nothing new.
	if (!before(tcp->rcv_nxt, s.seq + s.size))
		return ALLOW;
	if (talk->phase == ASKED && tcp->snd_nxt == (__u32)talk->answer) {
		// The body, or another request before this one was answered.
		if (!talk->chunked && !before(s.seq, talk->end))
			talk->end = s.seq; // too short now: the answer is not the last one
		goto heard;
	}
	// A request begins where the client has got all that was answered before.
	talk->phase = RESTING;
	if ((__u32)s.seq != tcp->rcv_nxt || (__u32)s.ack != tcp->snd_nxt)
		return ALLOW;
	if (talk->end && !talk->chunked && before(s.seq, talk->end))
		return ALLOW; // the rest of a body that was answered before it came
	beginning = begins(skb, &s);
	if (beginning == ANOTHER_PROTOCOL || untouchable(skb, &s))
		talk->phase = FOREIGN;
	if (beginning != REQUEST || talk->phase == FOREIGN)
		return ALLOW;
	scan_start(&talk->request);
	talk->answer = tcp->snd_nxt;
	talk->phase = HEARING;
	hear(skb, &s, talk);
heard:
	if (talk->phase == ASKED && talk->chunked)
		talk->end = chunks_end(skb, &s) ? s.seq + s.size : s.seq;
	return ALLOW;
}

// network_header is how many bytes precede the network header in an outgoing
// packet: those of Ethernet, perhaps with a VLAN tag, or none. A device does not
// say. -1 if it is none of these.
static __noinline int network_header(struct __sk_buff *skb)
{
	__u64 want[2], have[2];

	if (bpf_skb_load_bytes_relative(skb, 0, want, sizeof(want), BPF_HDR_START_NET))
		return -1;
	// The addresses are not among these bytes, but an IPv4 header's id and checksum are,
	// and an IPv6 header's flow label and source.
	if (!bpf_skb_load_bytes(skb, ETH_HLEN, have, sizeof(have)) && have[0] == want[0] && have[1] == want[1])
		return ETH_HLEN;
	if (!bpf_skb_load_bytes(skb, 0, have, sizeof(have)) && have[0] == want[0] && have[1] == want[1])
		return 0;
	if (!bpf_skb_load_bytes(skb, ETH_HLEN + 4, have, sizeof(have)) && have[0] == want[0] && have[1] == want[1])
		return ETH_HLEN + 4;
	return -1;
}

// An edit writes the part of the changed line that a packet carries.
struct edit {
	struct __sk_buff *skb;
	__u64 line; // the line's sequence number
	__u64 from, to; // the sequence numbers that the packet carries
	__u64 at;  // where in the packet the byte with the number from stands
	__u64 tcp; // where the TCP header stands
};

// The line, with blanks after it up to a power of two.
static const char closing[32] = CLOSING "               ";

static long edit_byte(__u32 index, struct edit *e)
{
	__u64 seq = e->line + index, at, column = index;
	__u8 old, new = ' ';
	__u16 was, is;

	if (before(seq, e->from) || !before(seq, e->to))
		return 0;
	at = e->at + (__u32)((__u32)seq - (__u32)e->from);
	// Without CAP_PERFMON an index must be bounded by arithmetic: not even a branch that
	// is not taken may go beyond. The compiler would leave that out.
	if (column < sizeof(closing)) {
		asm volatile("%0 &= 31" : "+r"(column));
		new = closing[column];
	}
	if (bpf_skb_load_bytes(e->skb, at, &old, 1) || old == new)
		return 0;
	// Where the kernel or the network card still has to compute the checksum, this
	// changes nothing. A packet may also come here with its checksum complete, as one
	// that another interface has cut into pieces.
	was = (at - e->tcp) & 1 ? bpf_htons(old) : bpf_htons(old << 8);
	is = (at - e->tcp) & 1 ? bpf_htons(new) : bpf_htons(new << 8);
	if (bpf_l4_csum_replace(e->skb, e->tcp + offsetof(struct tcphdr, check), was, is, 2))
		return 1;
	return bpf_skb_store_bytes(e->skb, at, &new, 1, BPF_F_RECOMPUTE_CSUM) ? 1 : 0;
}

static __noinline void edit(struct __sk_buff *skb, const struct segment *s, __u64 line, __u64 size)
{
	struct edit e = {
		.skb = skb,
		.line = line,
		.from = s->seq,
		.to = s->seq + s->size,
		.at = s->payload,
		.tcp = s->tcp,
	};

	__u64 last = (__u32)((__u32)line + (__u32)size - (__u32)s->seq);

	if (last > s->size)
		last = s->size;
	// All or nothing: if there is no memory for the line, it fails here.
	if (bpf_skb_pull_data(skb, s->payload + last))
		return;
	if (size > LONGEST)
		size = LONGEST;
	bpf_loop(size, edit_byte, &e, 0);
}

// status reads the status line: "HTTP/1.1 200 ". It returns the status, and 0 if it
// is none.
static __noinline int status(struct __sk_buff *skb, const struct segment *s, __u64 *minor)
{
	__u8 t[13];

	if (s->size < sizeof(t) || bpf_skb_load_bytes(skb, s->payload, t, sizeof(t)))
		return 0;
	if (t[0] != 'H' || t[1] != 'T' || t[2] != 'T' || t[3] != 'P' || t[4] != '/' || t[5] != '1' || t[6] != '.' ||
	    (t[7] != '0' && t[7] != '1') || t[8] != ' ')
		return 0;
	if (t[9] < '1' || t[9] > '5' || t[10] < '0' || t[10] > '9' || t[11] < '0' || t[11] > '9')
		return 0;
	// The phrase may be missing, and its blank with it.
	if (t[12] != ' ' && t[12] != '\r')
		return 0;
	*minor = t[7] - '0';
	return (t[9] - '0') * 100 + (t[10] - '0') * 10 + t[11] - '0';
}

// answers takes in the first packet of an answer. Received is the sequence number up to
// which the client has been heard. It returns true if the line was found that is to be
// changed.
static __noinline bool answers(struct __sk_buff *skb, const struct segment *s, struct conversation *talk,
			       __u32 received)
{
	struct scan *scan = &talk->reply;
	struct walk walk = {.skb = skb, .scan = scan, .from = s->payload};
	__u64 minor = 0, size = s->size;
	int code = status(skb, s, &minor);

	talk->phase = RESTING;
	if (!code)
		return false;
	if (code == 101) {
		talk->phase = FOREIGN;
		return false;
	}
	if (size > HEAD)
		size = HEAD;
	scan_start(scan);
	bpf_loop(size, walk_byte, &walk, 0);
	if (!scan->ended || scan->broken)
		goto untold; // it does not lie in one packet
	if (code < 200) {
		// The answer proper follows.
		if (scan->at == s->size) {
			talk->phase = ASKED;
			talk->answer = s->seq + s->size;
		}
		return false;
	}
	if (received != (__u32)talk->end) {
		// It was given before all was asked. If more was asked since, it is not known from
		// now on which request an answer belongs to.
		if (before(talk->end, received))
			talk->phase = FOREIGN;
		return false;
	}
	if (scan->connections == 1 ? scan->closes : !scan->connections && !minor) {
		talk->phase = FOREIGN;
		count(COUNT_CLOSING);
		return false;
	}
	// A second Connection line might be believed instead of ours.
	if (scan->connections > 1 || (scan->connections && !scan->keeps))
		goto untold;
	if (!scan->rank || (scan->rank == 1 && (code == 304 || scan->signed_)))
		goto untold;
	if (scan->connections && scan->rank != 6)
		goto untold; // the Connection line is too short to be changed
	talk->line = s->seq + scan->offset;
	talk->size = scan->size;
	talk->phase = TOLD;
	count(COUNT_TOLD);
	return true;
untold:
	count(COUNT_UNTOLD);
	return false;
}

// ar_tell sees every packet that leaves by an interface. It changes one line of
// those that answer what ar_hear has heard.
SEC("tc")
int ar_tell(struct __sk_buff *skb)
{
	struct conversation *talk;
	struct bpf_tcp_sock *tcp;
	struct segment s = {};
	struct bpf_sock *sk = skb->sk;
	int header;

	if (!sk)
		return PASS;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return PASS;
	talk = bpf_sk_storage_get(&ar_talks, sk, NULL, 0);
	if (!talk || (talk->phase != ASKED && talk->phase != TOLD))
		return PASS;
	header = network_header(skb);
	if (header < 0 || !read_segment(skb, header, &s))
		return PASS;
	if (talk->phase == ASKED) {
		if ((__u32)s.seq != (__u32)talk->answer)
			return PASS;
		tcp = bpf_tcp_sock(sk);
		if (!tcp || !answers(skb, &s, talk, tcp->rcv_nxt))
			return PASS;
	} else {
		// Sequence numbers wrap round. When the client has the line, it is never sent
		// again, and what then has its numbers is something else.
		tcp = bpf_tcp_sock(sk);
		if (!tcp)
			return PASS;
		if (!before(tcp->snd_una, talk->line + talk->size)) {
			talk->phase = FOREIGN;
			return PASS;
		}
	}
	// From now on each packet that carries a part of the line is changed alike: a
	// client may get the first one, or one that was sent again and cut otherwise.
	if (before(talk->line, s.seq + s.size) && before(s.seq, talk->line + talk->size))
		edit(skb, &s, talk->line, talk->size);
	return PASS;
}

// None of the helper functions asks for the GPL.
char _license[] SEC("license") = "MIT";
