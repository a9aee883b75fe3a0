package closing

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"
)

// pieces are what random streams are made of: what a client may send and what an app
// may, whole and broken.
var pieces = []string{
	"GET / HTTP/1.1\r\n", "POST /a HTTP/1.1\r\n", "HEAD / HTTP/1.0\r\n", "CONNECT a:1 HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n",
	"HTTP/1.1 200 OK\r\n", "HTTP/1.0 200 OK\r\n", "HTTP/1.1 304 Not Modified\r\n", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 101 Switching\r\n",
	"Host: shop\r\n", "Content-Length: 10\r\n", "Content-Length: 999999999999999999999\r\n", "Transfer-Encoding: chunked\r\n",
	"Connection: keep-alive\r\n", "Connection: close\r\n", "Connection: Upgrade\r\n", "Server: lighttpd/1.4.69\r\n", "Keep-Alive: timeout=5\r\n",
	date + "\r\n", "X-Powered-By: Express 4.18\r\n", " folded\r\n", "Signature: sig=:abc:\r\n",
	"\r\n", "\r\n", "\r\n\r\n", "\n", "\r", "0\r\n\r\n", "5\r\nhello\r\n", "0123456789", "\x00\xff\x81\x7e",
}

var requests = []string{
	get, "HEAD / HTTP/1.1\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", get + get,
	"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "GET / HTTP/1.1\r\nHost",
}

// stream is some pieces, now and then with a byte changed.
func stream(r *rand.Rand) []byte {
	var b []byte
	for range 1 + r.IntN(10) {
		b = append(b, pieces[r.IntN(len(pieces))]...)
	}
	if r.IntN(4) == 0 {
		b[r.IntN(len(b))] = byte(r.Uint32())
	}
	return b
}

// mayGo are the lines that may be given up, as they stand in a stream.
var mayGo = regexp.MustCompile(`(?i)^(connection:[ \t]*keep-alive|keep-alive:[^\r\n]*|server:[^\r\n]*|x-powered-by:[^\r\n]*|x-runtime:[^\r\n]*|date:[^\r\n]*)$`)

// changes counts the lines that were changed between what was sent and what was got. It
// fails for any other difference.
func changes(sent, got []byte) (int, error) {
	if len(sent) != len(got) {
		return 0, fmt.Errorf("%d bytes were sent, and %d came", len(sent), len(got))
	}
	n := 0
	for at := 0; at < len(sent); {
		if sent[at] == got[at] {
			at++
			continue
		}
		// The line begins after a line's end, and goes on to the next.
		begin := bytes.LastIndexByte(sent[:at], '\n') + 1
		end := at + bytes.IndexByte(sent[at:], '\r')
		if end < at || !mayGo.Match(sent[begin:end]) {
			return n, fmt.Errorf("byte %d of %q was changed", at, sent)
		}
		if want := in(string(sent[begin:end])); string(got[begin:end]) != want {
			return n, fmt.Errorf("the line %q has become %q", sent[begin:end], got[begin:end])
		}
		n, at = n+1, end
	}
	return n, nil
}

// TestRandomStreams: whatever client and app send, in whatever order, comes out as it
// went in, but for one line of each connection. STREAMS is how many connections are
// tried, SEED repeats a run.
func TestRandomStreams(t *testing.T) {
	each(t, func(t *testing.T, attach func(c *Closing, index int) (hook, error)) {
		connections, seed := number("STREAMS", 500), seedOr(uint64(time.Now().UnixNano()))
		t.Logf("SEED=%d", seed)
		b := newBed(t, "tcp4", address, attach)
		b.tell(t)
		changed := 0
		for i := range connections {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			p := b.connect(t)
			toClient, toApp := new(ends), new(ends)
			var reads sync.WaitGroup
			reads.Go(func() { toClient.read(p.client) })
			reads.Go(func() { toApp.read(p.app) })
			say := func(from net.Conn, to *ends, text []byte) {
				to.sent = append(to.sent, text...)
				from.Write(text)
				if r.IntN(4) > 0 {
					to.until(t, len(to.sent))
				}
			}
			for range 1 + r.IntN(6) {
				switch r.IntN(4) {
				case 0:
					say(p.client, toApp, stream(r))
				case 1:
					say(p.app, toClient, stream(r))
				default:
					say(p.client, toApp, []byte(requests[r.IntN(len(requests))]))
					// The head is whole, or a part of it is missing, and more follows.
					head := lines(ok, pieces[r.IntN(len(pieces))]+date, "Connection: keep-alive")
					say(p.app, toClient, append([]byte(head[:len(head)-r.IntN(2)]), stream(r)...))
				}
			}
			p.client.(*net.TCPConn).CloseWrite()
			p.app.(*net.TCPConn).CloseWrite()
			reads.Wait()
			if !bytes.Equal(toApp.sent, toApp.got.Bytes()) {
				t.Errorf("connection %d: the client's stream was changed: %q came as %q", i, toApp.sent, toApp.got.Bytes())
			}
			n, err := changes(toClient.sent, toClient.got.Bytes())
			if changed += n; err != nil || n > 1 {
				t.Errorf("connection %d: %d lines were changed, %v", i, n, err)
			}
		}
		t.Logf("%d of %d connections were told", changed, connections)
		if changed == 0 {
			t.Error("nothing was changed at all")
		}
	})
}

// FuzzStreams tries random streams by their seed: what is fuzzed lies in the kernel, and
// each try has a network namespace of its own.
func FuzzStreams(f *testing.F) {
	if os.Getuid() != 0 {
		f.Skip("needs root: makes network namespaces and loads BPF programs")
	}
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) {
		try := exec.Command("/proc/self/exe", "-test.run=^TestRandomStreams$")
		try.Env = append(os.Environ(), fmt.Sprint("SEED=", seed), "STREAMS=50")
		if out, err := try.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	})
}

func number(name string, otherwise int) int {
	n, err := strconv.Atoi(os.Getenv(name))
	if err != nil {
		return otherwise
	}
	return n
}

func seedOr(otherwise uint64) uint64 {
	seed, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64)
	if err != nil {
		return otherwise
	}
	return seed
}

// ends are both ends of one direction of a connection.
type ends struct {
	sent []byte
	mu   sync.Mutex
	got  bytes.Buffer
}

func (e *ends) read(conn net.Conn) {
	buffer := make([]byte, 1<<16)
	for {
		n, err := conn.Read(buffer)
		e.mu.Lock()
		e.got.Write(buffer[:n])
		e.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// until waits until so many bytes have come.
func (e *ends) until(t *testing.T, n int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Microsecond) {
		e.mu.Lock()
		have := e.got.Len()
		e.mu.Unlock()
		if have >= n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d bytes came", have, n)
		}
	}
}
