// Package closing tells kept-alive clients of instances that are about to stop to
// close their connections, with two BPF programs in C (tell.c).
//
// A client that keeps its connection sends its next request whenever it likes. If
// the server has just been told to stop, that request is lost. So while an instance
// drains, the kernel changes one line in the head of the answer to the next request on
// each of its connections to "Connection: close". A client that waits for its answers is
// told before it sends anything more; it closes, and no request is lost.
//
//	ar_hear   on the control group of each instance that drains, where packets
//	          come in: sees that a client asks, and where its request ends
//	ar_tell   on each network interface, where packets go out: changes the line
//
// The invariant: a packet is changed only if its socket belongs to an instance that
// drains, if ar_hear saw a whole HTTP/1 request on it after a moment at which nothing
// was under way, if the packet is the first that answers it, and if the whole head of
// an answer lies in it. The length stays, byte for byte. Everything else leaves as it
// was: what cannot be told is not told. A connection that begins with another protocol
// (CONNECT, HTTP/2), or whose packets are signed or of Multipath TCP, is left alone for
// good.
//
// That nothing is under way is taken from the order of things: the client asks when it
// has got all that was sent. A client that was pipelining before ar_hear was there, with
// two requests unanswered, looks the same if it sends the next one just between two
// answers, and is told one answer early. No later packet would show the difference.
//
// What is remembered of a connection lies at its socket (BPF_MAP_TYPE_SK_STORAGE).
// Traffic of everybody else finds nothing there, and goes on. A line that was changed
// once is changed in the same way in each packet that carries a part of it, so that
// one that is sent again, perhaps cut otherwise, agrees with the first.
//
// The socket stays an ordinary one. In a sockmap it would not: FIONREAD then tells
// wrong numbers on some kernels, for which nginx waits in vain.
//
// ar_tell is attached by TCX links, since Linux 6.6, or else by filters of the
// clsact queueing discipline; in front of whoever is there by then, and it leaves the
// decision to them. The links are pinned, and filters stay by themselves: if the helper
// is killed, lines that were changed stay changed until Sweep.
package closing
