package closing

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/sockets/socktest"
)

func TestMain(m *testing.M) { socktest.Main(m) }

// address is where the app of the tests listens.
const address = "127.0.0.1:8080"

// bed is an instance whose clients are told to close. The test plays the app: it
// accepts from the listener of a process in the instance's control group, whose
// connections belong to that control group too.
type bed struct {
	closing  *Closing
	listener net.Listener
	address  string
}

// attachments are the two ways to attach ar_tell.
var attachments = map[string]func(c *Closing, index int) (hook, error){
	"link":   (*Closing).attach,
	"filter": (*Closing).filter,
}

// each runs the test once for each way to attach.
func each(t *testing.T, test func(t *testing.T, attach func(c *Closing, index int) (hook, error))) {
	if !socktest.Isolated(t) {
		return
	}
	for name, attach := range attachments {
		t.Run(name, func(t *testing.T) { test(t, attach) })
	}
}

func newBed(t *testing.T, network, address string, attach func(c *Closing, index int) (hook, error)) *bed {
	t.Helper()
	b := &bed{address: address, listener: listen(t, network, address)}
	var err error
	if b.closing, err = open(filepath.Join(socktest.BPFFS(), "shop"), attach); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if b.closing == nil {
			return
		}
		if err := b.closing.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// cgroup is the instance's, in each test.
const cgroup = "instance"

var cgroupPath string

func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	cgroupPath = socktest.Cgroup(t, cgroup)
	socktest.Start(t, cgroupPath, socktest.Config{Name: cgroup, Listen: []socktest.Listen{{Network: network, Address: address}}, Lazy: true})
	view, err := sockets.Look()
	if err != nil {
		t.Fatal(err)
	}
	listeners, err := view.In(cgroupPath)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := sockets.Open(cgroupPath, listeners)
	if err != nil || len(opened) != 1 {
		t.Fatal(opened, err)
	}
	file := os.NewFile(uintptr(opened[0].FD()), "listener")
	defer file.Close()
	l, err := net.FileListener(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func (b *bed) tell(t *testing.T) {
	t.Helper()
	if err := b.closing.Tell([]string{cgroupPath}); err != nil {
		t.Fatal(err)
	}
}

func (b *bed) counts(t *testing.T) Counts {
	t.Helper()
	c, err := b.closing.Counts()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// pair is a connection, both ends of it.
type pair struct{ client, app net.Conn }

func (b *bed) connect(t *testing.T) pair {
	t.Helper()
	client, err := net.Dial("tcp", b.address)
	if err != nil {
		t.Fatal(err)
	}
	app, err := b.listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); app.Close() })
	return pair{client, app}
}

// ask sends a request, in one packet, and waits until the app has it.
func (p pair) ask(t *testing.T, request string) {
	t.Helper()
	p.send(t, p.client, p.app, request, request)
}

// answer sends a part of an answer, in one packet, and compares what the client gets.
func (p pair) answer(t *testing.T, answer, want string) {
	t.Helper()
	p.send(t, p.app, p.client, answer, want)
}

func (p pair) send(t *testing.T, from, to net.Conn, sent, want string) {
	t.Helper()
	if _, err := io.WriteString(from, sent); err != nil {
		t.Fatal(err)
	}
	to.SetReadDeadline(time.Now().Add(10 * time.Second))
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(to, got); err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("sent\n%q, got\n%q, want\n%q", sent, got, want)
	}
}

// lines joins the lines of a head.
func lines(l ...string) string { return strings.Join(l, "\r\n") + "\r\n\r\n" }

// in pads the line that tells to close to the length of the one that it replaces.
func in(place string) string {
	return "Connection: close" + strings.Repeat(" ", len(place)-len("Connection: close"))
}

const (
	get  = "GET / HTTP/1.1\r\nHost: shop\r\n\r\n"
	ok   = "HTTP/1.1 200 OK"
	date = "Date: Tue, 01 Dec 2026 10:00:00 GMT"
	nine = "Content-Length: 9"
)

// answers are what apps answer, and the line of it that is given up. Without one the
// answer reaches the client as it is.
var answers = []struct {
	name, request, head, body string
	line                      string
	told, closing, untold     uint64
}{
	{name: "Node", head: lines(ok, date, "Connection: keep-alive", "Keep-Alive: timeout=5", nine), body: "some text", line: "Connection: keep-alive", told: 1},
	{name: "Go", head: lines(ok, date, nine), body: "some text", line: date, told: 1},
	{name: "nginx", head: lines(ok, "Server: nginx/1.22.1", date, nine, "connection: Keep-Alive"), body: "some text", line: "connection: Keep-Alive", told: 1},
	{name: "lighttpd", head: lines(ok, nine, date, "Server: lighttpd/1.4.69"), body: "some text", line: "Server: lighttpd/1.4.69", told: 1},
	{name: "a name with capitals", head: lines(ok, "SERVER: lighttpd/1.4.69"), line: "SERVER: lighttpd/1.4.69", told: 1},
	{name: "no blank after the colon", head: lines(ok, "Connection:keep-alive"), line: "Connection:keep-alive", told: 1},
	{name: "no phrase", head: lines("HTTP/1.1 200", date), line: date, told: 1},
	{name: "HTTP/1.0, kept", head: lines("HTTP/1.0 200 OK", date, "Connection: keep-alive"), line: "Connection: keep-alive", told: 1},
	{name: "HTTP/1.0", head: lines("HTTP/1.0 200 OK", date), closing: 1},
	{name: "closes by itself", head: lines(ok, date, "Connection: close"), closing: 1},
	{name: "closes by itself, blanks behind", head: lines(ok, date, "Connection: close  "), closing: 1},
	{name: "blanks behind", head: lines(ok, date, "Connection: \tkeep-alive \t"), line: "Connection: \tkeep-alive \t", told: 1},
	{name: "a length in two words", request: "POST /a HTTP/1.1\r\nContent-Length: 1 1\r\n\r\nhello world", head: lines(ok, date)},
	{name: "two Connection lines", head: lines(ok, date, "Connection: keep-alive", "Connection: close"), untold: 1},
	{name: "another Connection line", head: lines(ok, date, "Connection: X-Session"), untold: 1},
	{name: "nothing to give up", head: lines(ok, nine, "ETag: \"0123456789abcdef\"", "X-Request-Id: 0123456789abcdef"), body: "some text", untold: 1},
	{name: "too short", head: lines(ok, "Server: x"), untold: 1},
	{name: "too long", head: lines(ok, "Server: "+strings.Repeat("x", 200)), untold: 1},
	{name: "304", head: lines("HTTP/1.1 304 Not Modified", date), untold: 1},
	{name: "304 with a server", head: lines("HTTP/1.1 304 Not Modified", date, "Server: lighttpd/1.4.69"), line: "Server: lighttpd/1.4.69", told: 1},
	{name: "signed", head: lines(ok, date, `Signature-Input: sig=("date")`), untold: 1},
	{name: "folded", head: lines(ok, "X-Text: one", " Server: lighttpd/1.4.69", date), untold: 1},
	{name: "a line without a name", head: lines(ok, "some text", date), untold: 1},
	{name: "lines that end wrongly", head: ok + "\n" + date + "\n\n", untold: 1},
	{name: "204", head: lines("HTTP/1.1 204 No Content", date), line: date, told: 1},
	{name: "HEAD", request: "HEAD / HTTP/1.1\r\nHost: shop\r\n\r\n", head: lines(ok, date, nine), line: date, told: 1},
	{name: "404", head: lines("HTTP/1.1 404 Not Found", date, nine), body: "not found", line: date, told: 1},
	{name: "500", head: lines("HTTP/1.1 500 Internal Server Error", date), line: date, told: 1},
	{name: "600", head: lines("HTTP/1.1 600 What", date)},
	{name: "HTTP/2", head: lines("HTTP/2.0 200 OK", date)},
	{name: "no HTTP", head: "a greeting of more than thirteen bytes"},
	{name: "short", head: "HTTP/1.1"},
	{name: "a head in the body", head: lines(ok, date, "Content-Length: 100"), body: lines(ok, date, "Connection: keep-alive"), line: date, told: 1},
	{name: "101", head: lines("HTTP/1.1 101 Switching Protocols", date, "Connection: Upgrade", "Upgrade: websocket")},
	{name: "POST", request: "POST /a HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\n\r\nhello", head: lines(ok, date), line: date, told: 1},
	{name: "chunked", request: "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", head: lines(ok, date), line: date, told: 1},
	{name: "two requests at once", request: get + get, head: lines(ok, date)},
	{name: "a request and a half", request: get + "GET /b HT", head: lines(ok, date)},
	{name: "CONNECT", request: "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n", head: lines(ok, date)},
	{name: "HTTP/2 preface", request: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", head: lines(ok, date)},
	{name: "no request", request: "hello, are you there?", head: lines(ok, date)},
	{name: "an unfinished request", request: "GET / HTTP/1.1\r\nHost: sh", head: lines(ok, date)},
	{name: "a huge body", request: "POST /a HTTP/1.1\r\nContent-Length: 4294967296\r\n\r\n", head: lines(ok, date)},
	{name: "an unfinished body", request: "POST /a HTTP/1.1\r\nContent-Length: 50\r\n\r\nhello", head: lines(ok, date)},
}

func TestAnswers(t *testing.T) {
	each(t, func(t *testing.T, attach func(c *Closing, index int) (hook, error)) {
		b := newBed(t, "tcp4", address, attach)
		b.tell(t)
		before := b.counts(t)
		for _, a := range answers {
			t.Run(a.name, func(t *testing.T) {
				p := b.connect(t)
				if a.request == "" {
					a.request = get
				}
				p.ask(t, a.request)
				want := a.head
				if a.line != "" {
					want = strings.Replace(a.head, a.line, in(a.line), 1)
				}
				p.answer(t, a.head+a.body, want+a.body)
				got, was := b.counts(t), before
				before = got
				if got.Told-was.Told != a.told || got.Closing-was.Closing != a.closing || got.Untold-was.Untold != a.untold {
					t.Errorf("counted %+v after %+v, want %d told, %d closing, %d untold", got, was, a.told, a.closing, a.untold)
				}
			})
		}
	})
}

// TestConversations has connections of several requests, of which some were made
// before clients are told.
func TestConversations(t *testing.T) {
	each(t, func(t *testing.T, attach func(c *Closing, index int) (hook, error)) {
		b := newBed(t, "tcp4", address, attach)
		head := lines(ok, date, "Content-Length: 5")
		told := strings.Replace(head, date, in(date), 1)

		before := b.connect(t)
		before.ask(t, get)
		before.answer(t, head+"hello", head+"hello")
		asked := b.connect(t)
		asked.ask(t, get)
		middle := b.connect(t)
		middle.ask(t, get)
		middle.answer(t, lines(ok, date, "Content-Length: 1000")+"hello", lines(ok, date, "Content-Length: 1000")+"hello")

		b.tell(t)
		// The request was there already: the next one is told.
		asked.answer(t, head+"hello", head+"hello")
		for _, p := range []pair{before, asked} {
			p.ask(t, get)
			p.answer(t, head+"hello", told+"hello")
		}
		// The rest of a body that looks like an answer, though nobody has asked anew.
		middle.answer(t, lines(ok, date), lines(ok, date))

		t.Run("once", func(t *testing.T) {
			// A client that goes on all the same gets the rest as it is.
			before.ask(t, get)
			before.answer(t, head+"hello", head+"hello")
		})
		t.Run("a head in two packets", func(t *testing.T) {
			p := b.connect(t)
			p.ask(t, get)
			p.answer(t, head[:len(head)-3], head[:len(head)-3])
			p.answer(t, head[len(head)-3:]+"hello", head[len(head)-3:]+"hello")
			p.ask(t, get)
			p.answer(t, head+"hello", told+"hello")
		})
		t.Run("a request in pieces", func(t *testing.T) {
			p := b.connect(t)
			for i := range get {
				if i < 14 {
					continue
				}
				from := i
				if i == 14 {
					from = 0
				}
				p.ask(t, get[from:i+1])
			}
			p.answer(t, head+"hello", told+"hello")
		})
		t.Run("a body in pieces", func(t *testing.T) {
			p := b.connect(t)
			p.ask(t, "POST / HTTP/1.1\r\nContent-Length: 30\r\n\r\n0123456789")
			p.ask(t, "GET / HTTP")
			p.ask(t, "0123456789")
			p.answer(t, head+"hello", told+"hello")
		})
		t.Run("chunks in pieces", func(t *testing.T) {
			p := b.connect(t)
			p.ask(t, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
			p.ask(t, "5\r\nhello\r\n")
			p.ask(t, "0\r\n\r\n")
			p.answer(t, head+"hello", told+"hello")
		})
		t.Run("answered in the middle of the chunks", func(t *testing.T) {
			p := b.connect(t)
			p.ask(t, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
			p.answer(t, head+"hello", head+"hello")
		})
		t.Run("100 Continue", func(t *testing.T) {
			p := b.connect(t)
			p.ask(t, "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n")
			p.answer(t, "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n")
			p.ask(t, "GET / HTTP")
			p.answer(t, head+"hello", told+"hello")
		})
		t.Run("103 Early Hints", func(t *testing.T) {
			p := b.connect(t)
			p.ask(t, get)
			hints := lines("HTTP/1.1 103 Early Hints", "Link: </a.css>; rel=preload", date)
			p.answer(t, hints, hints)
			p.answer(t, head+"hello", told+"hello")
		})
		t.Run("an upload that is answered while it comes in", func(t *testing.T) {
			p := b.connect(t)
			p.ask(t, "POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\n")
			p.answer(t, lines(ok, date, "Content-Length: 1000"), lines(ok, date, "Content-Length: 1000"))
			// What both sides send now looks like a request and an answer.
			p.ask(t, get)
			p.answer(t, lines(ok, date), lines(ok, date))
		})
		t.Run("after 101", func(t *testing.T) {
			p := b.connect(t)
			p.ask(t, get)
			upgrade := lines("HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: raw")
			p.answer(t, upgrade, upgrade)
			p.ask(t, get)
			p.answer(t, head+"hello", head+"hello")
		})
		t.Run("HTTP in a tunnel", func(t *testing.T) {
			p := b.connect(t)
			p.ask(t, "CONNECT example.com:80 HTTP/1.1\r\nHost: example.com:80\r\n\r\n")
			p.answer(t, lines(ok), lines(ok))
			p.ask(t, get)
			p.answer(t, head+"hello", head+"hello")
		})
		t.Run("the text of a request in HTTP/2", func(t *testing.T) {
			p := b.connect(t)
			p.ask(t, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
			p.answer(t, "\x00\x00\x00\x04", "\x00\x00\x00\x04")
			p.ask(t, get)
			p.answer(t, head+"hello", head+"hello")
		})
		t.Run("pipelined, one packet each", func(t *testing.T) {
			p := b.connect(t)
			p.ask(t, get)
			p.ask(t, get)
			p.answer(t, head+"hello", head+"hello")
			// The next request comes while the second is still to be answered.
			p.ask(t, get)
			p.answer(t, head+"hello", head+"hello")
			p.answer(t, head+"hello", head+"hello")
		})
		t.Run("100 MB", func(t *testing.T) {
			p := b.connect(t)
			p.ask(t, get)
			big := lines(ok, date, "Content-Length: 100000000")
			body := bytes.Repeat([]byte(lines(ok, date)), 100000000/len(lines(ok, date))+1)[:100000000]
			go io.WriteString(p.app, big+string(body))
			got := make([]byte, len(big)+len(body))
			if _, err := io.ReadFull(p.client, got); err != nil {
				t.Fatal(err)
			}
			if want := strings.Replace(big, date, in(date), 1); string(got[:len(big)]) != want || !bytes.Equal(got[len(big):], body) {
				t.Error("the body was changed, or the head was not")
			}
		})
	})
}

// TestWrap: sequence numbers wrap round after 4 GiB. What then has the numbers of the line
// that was changed stays as it is.
func TestWrap(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	const most = 1<<32 + 1<<20
	b := newBed(t, "tcp4", address, (*Closing).attach)
	b.tell(t)
	p := b.connect(t)
	p.ask(t, get)
	head := lines(ok, date)
	p.answer(t, head, strings.Replace(head, date, in(date), 1))
	piece := bytes.Repeat([]byte("x"), 1<<20)
	go func() {
		for range most >> 20 {
			if _, err := p.app.Write(piece); err != nil {
				return
			}
		}
	}()
	p.client.SetReadDeadline(time.Now().Add(4 * time.Minute))
	got := make([]byte, 1<<20)
	for n := range most >> 20 {
		if _, err := io.ReadFull(p.client, got); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, piece) {
			t.Fatalf("MiB %d was changed: %q", n, bytes.Trim(got, "x"))
		}
	}
}
