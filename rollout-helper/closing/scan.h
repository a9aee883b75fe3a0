// The head of an HTTP/1 request or answer, read byte by byte (RFC 9112).
//
// All numbers are whole words: Linux 6.1 lets a program without CAP_PERFMON write
// only once to a word of its stack that holds a register. The loop is bpf_loop(),
// because the verifier looks at its body once and not once for each byte.

// HEAD is the longest head that is read, in bytes. nginx takes requests of 8 kB
// at most, if nobody tells it otherwise; answers are shorter.
#define HEAD 8192

// A name or value in lower case, its last 16 bytes. The earlier bytes are in high.
struct word {
	__u64 high, low;
};

#define BYTES(a, b, c, d, e, f, g, h)                                                                   \
	((__u64)(a) << 56 | (__u64)(b) << 48 | (__u64)(c) << 40 | (__u64)(d) << 32 | (__u64)(e) << 24 | \
	 (__u64)(f) << 16 | (__u64)(g) << 8 | (__u64)(h))

static __always_inline bool is(const struct word *w, __u64 high, __u64 low)
{
	return w->high == high && w->low == low;
}

static __always_inline void append(struct word *w, __u64 c)
{
	w->high = w->high << 8 | w->low >> 56;
	w->low = w->low << 8 | c;
}

// What a line is, by its name.
enum line {
	OTHER,
	START, // the request line or the status line
	CONNECTION,
	KEEP_ALIVE,
	SERVER,
	POWERED_BY,
	RUNTIME,
	DATE,
	SIGNATURE,
	LENGTH,
	ENCODING,
};

// Where in a line the next byte stands.
enum place { IN_NAME, IN_VALUE };

// What was read of a head so far.
struct scan {
	__u64 at;    // bytes read
	__u64 begun; // where this line began
	__u64 place;
	__u64 line;     // what this line is, when its name was read
	__u64 previous; // the byte before
	struct word text; // of the name or the value
	__u64 blank;      // blanks came after it
	__u64 number;   // of a value that is one

	__u64 ended; // the blank line was read
	__u64 broken; // it is no head that we understand

	// What the lines before this one said.
	__u64 length;      // Content-Length
	__u64 chunked;     // there was a Transfer-Encoding
	__u64 signed_;     // the answer is signed, perhaps with the lines in it
	__u64 connections; // how many Connection lines there were
	__u64 keeps;       // the last of them said keep-alive
	__u64 closes;      // it said close
	__u64 rank;        // of the line that can best be given up, 0: there is none
	__u64 offset, size; // of that line, without its end
};

static __always_inline __u64 line_of(const struct word *name)
{
	if (is(name, BYTES(0, 0, 0, 0, 0, 0, 'c', 'o'), BYTES('n', 'n', 'e', 'c', 't', 'i', 'o', 'n')))
		return CONNECTION;
	if (is(name, BYTES(0, 0, 0, 0, 0, 0, 'k', 'e'), BYTES('e', 'p', '-', 'a', 'l', 'i', 'v', 'e')))
		return KEEP_ALIVE;
	if (is(name, 0, BYTES(0, 0, 's', 'e', 'r', 'v', 'e', 'r')))
		return SERVER;
	if (is(name, BYTES(0, 0, 0, 0, 'x', '-', 'p', 'o'), BYTES('w', 'e', 'r', 'e', 'd', '-', 'b', 'y')))
		return POWERED_BY;
	if (is(name, BYTES(0, 0, 0, 0, 0, 0, 0, 'x'), BYTES('-', 'r', 'u', 'n', 't', 'i', 'm', 'e')))
		return RUNTIME;
	if (is(name, 0, BYTES(0, 0, 0, 0, 'd', 'a', 't', 'e')))
		return DATE;
	if (is(name, BYTES(0, 0, 0, 0, 0, 0, 0, 's'), BYTES('i', 'g', 'n', 'a', 't', 'u', 'r', 'e')) ||
	    is(name, BYTES(0, 's', 'i', 'g', 'n', 'a', 't', 'u'), BYTES('r', 'e', '-', 'i', 'n', 'p', 'u', 't')))
		return SIGNATURE;
	if (is(name, BYTES(0, 0, 'c', 'o', 'n', 't', 'e', 'n'), BYTES('t', '-', 'l', 'e', 'n', 'g', 't', 'h')))
		return LENGTH;
	// Its first letter is the seventeenth from the end.
	if (is(name, BYTES('r', 'a', 'n', 's', 'f', 'e', 'r', '-'), BYTES('e', 'n', 'c', 'o', 'd', 'i', 'n', 'g')))
		return ENCODING;
	return OTHER;
}

// rank is how readily a line of an answer is given up, 0: never. What a client, a
// cache, a log or a signature may need is not here. Date is the last: whoever
// needs it may set it by its own clock when it is missing (RFC 9110, 6.6.1).
static __always_inline __u64 rank_of(__u64 line)
{
	switch (line) {
	case KEEP_ALIVE:
		return 5;
	case SERVER:
		return 4;
	case POWERED_BY:
		return 3;
	case RUNTIME:
		return 2;
	case DATE:
		return 1;
	}
	return 0;
}

// CLOSING is the line that is put in the place of another one.
#define CLOSING "Connection: close"
#define CLOSING_SIZE (sizeof(CLOSING) - 1)

// LONGEST is the longest line that is given up, in bytes.
#define LONGEST 128

// line_ends takes in a line that has been read.
static __always_inline void line_ends(struct scan *s, __u64 size)
{
	__u64 rank = rank_of(s->line);

	switch (s->line) {
	case CONNECTION:
		s->connections++;
		s->keeps = is(&s->text, BYTES(0, 0, 0, 0, 0, 0, 'k', 'e'), BYTES('e', 'p', '-', 'a', 'l', 'i', 'v', 'e'));
		s->closes = is(&s->text, 0, BYTES(0, 0, 0, 'c', 'l', 'o', 's', 'e'));
		if (s->keeps)
			rank = 6;
		break;
	case LENGTH:
		s->length = s->number;
		break;
	case ENCODING:
		s->chunked = 1;
		break;
	case SIGNATURE:
		s->signed_ = 1;
		break;
	}
	if (rank > s->rank && size >= CLOSING_SIZE && size <= LONGEST) {
		s->rank = rank;
		s->offset = s->begun;
		s->size = size;
	}
}

// scan_byte takes the next byte in. It returns 1 where the reading ends.
static __always_inline long scan_byte(struct scan *s, __u64 c)
{
	__u64 at = s->at, size;

	s->at = at + 1;
	if (c == '\n') {
		if (s->previous != '\r')
			goto broken;
		size = at - s->begun - 1;
		if (!size) {
			s->ended = 1;
			return 1;
		}
		// A line without a colon is no field.
		if (s->place == IN_NAME)
			goto broken;
		line_ends(s, size);
		s->begun = at + 1;
		s->place = IN_NAME;
		s->line = OTHER;
		s->text.high = s->text.low = s->blank = 0;
		s->previous = c;
		return 0;
	}
	if (s->previous == '\r')
		goto broken;
	s->previous = c;
	if (c == '\r')
		return 0;
	if (s->place == IN_NAME && c == ':') {
		s->line = line_of(&s->text);
		s->place = IN_VALUE;
		s->text.high = s->text.low = s->blank = s->number = 0;
		return 0;
	}
	if (c == ' ' || c == '\t') {
		// No name has a blank in it; at its beginning, this goes on with the line before.
		if (s->place == IN_NAME)
			goto broken;
		s->blank = 1;
		return 0;
	}
	if (c >= 'A' && c <= 'Z')
		c |= 0x20;
	// Blanks around a value do not belong to it.
	if (s->blank && s->text.low) {
		if (s->line == LENGTH)
			goto broken;
		append(&s->text, ' ');
	}
	s->blank = 0;
	append(&s->text, c);
	if (s->line == LENGTH) {
		if (c < '0' || c > '9' || s->number > 1ULL << 40)
			goto broken;
		s->number = s->number * 10 + c - '0';
	}
	return 0;
broken:
	s->broken = 1;
	return 1;
}

// scan_start prepares for the first line, which counts as a value: it has no name.
static __always_inline void scan_start(struct scan *s)
{
	__builtin_memset(s, 0, sizeof(*s));
	s->place = IN_VALUE;
	s->line = START;
}

// A walk reads bytes of a packet into a scan.
struct walk {
	struct __sk_buff *skb;
	struct scan *scan;
	__u64 from; // where in the packet
};

static long walk_byte(__u32 index, struct walk *w)
{
	__u8 c;

	if (bpf_skb_load_bytes(w->skb, w->from + index, &c, 1)) {
		w->scan->broken = 1;
		return 1;
	}
	return scan_byte(w->scan, c);
}
