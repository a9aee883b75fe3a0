package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// Where the servers of the story listen.
const (
	plain   = "127.0.0.1:8080"
	secure  = "127.0.0.1:8081"
	nginx   = "127.0.0.1:8090"
	haproxy = "127.0.0.1:8091"
	edge    = "127.0.0.1:8092"
	nio     = "127.0.0.1:8093"
)

func get(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: shop\r\n\r\n" }

func post(path, more string, body []byte) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: shop\r\nContent-Length: %d\r\n%s\r\n", path, len(body), more) + string(body)
}

const little = 5 * time.Millisecond

var megabyte = filler(1 << 20)

// talks are all conversations. The story says which of them are told to close.
var talks = []*talk{
	{name: "GET", address: plain, request: get("/body?size=3000"), answer: filled(3000), pause: little},
	{name: "MPTCP", address: plain, request: get("/body?size=3000"), answer: filled(3000), pause: little, mptcp: true},
	{name: "HEAD", address: plain, request: strings.Replace(get("/body?size=3000"), "GET", "HEAD", 1), answer: with(nil), pause: little},
	{name: "204", address: plain, request: get("/status?code=204"), answer: with(nil), pause: little},
	{name: "304", address: plain, request: get("/status?code=304"), answer: with(nil), pause: little},
	{name: "100 MB", address: plain, request: get("/body?size=100000000"), answer: filled(100_000_000), pause: 300 * time.Millisecond},
	{name: "sendfile", address: plain, request: get("/file"), answer: filled(len(large)), pause: little},
	{name: "slow reader", address: plain, request: get(fmt.Sprint("/body?size=", len(large))), answer: slowly},
	{name: "chunks and a trailer", address: plain, request: get("/chunks?n=30&pause=20"), answer: chunked, pause: little},
	{name: "100 Continue", address: plain, request: post("/upload", "Expect: 100-continue\r\n", megabyte), answer: continued, pause: 50 * time.Millisecond},
	{name: "103 Early Hints", address: plain, request: get("/hints?size=3000"), answer: hinted, pause: little},
	{name: "closes by itself", address: plain, request: get("/body?size=300"), answer: filled(300), inDrain: late(get("/closes?size=3000"), closes)},
	{name: "duplex", address: plain, request: "POST /duplex HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n", answer: duplexed, pause: little},
	{name: "events", address: plain, request: get("/events"), answer: eventful},
	{name: "WebSocket", address: plain, request: get("/upgrade"), answer: messages},
	{name: "WebSocket in the drain", address: plain, request: get("/body?size=300"), answer: filled(300), inDrain: late(get("/upgrade"), messages)},
	{name: "tunnel", address: plain, request: connect, answer: tunnelled("hello, are you there?\r\n\r\n")},
	{name: "tunnel in the drain", address: plain, request: get("/body?size=300"), answer: filled(300), inDrain: late(connect, tunnelled(get("/")))},

	{name: "nginx, sendfile", address: nginx, request: get("/large"), answer: filled(len(large)), pause: little},
	{name: "nginx, POST of 1 MB", address: nginx, request: post("/upload", "", megabyte), answer: with([]byte(sum(megabyte))), pause: little},
	{name: "HAProxy, splice", address: haproxy, request: get(fmt.Sprint("/body?size=", len(large))), answer: filled(len(large)), pause: little},
	{name: "FIONREAD, POST of 1 MB", address: edge, request: post("/", "", megabyte), answer: with([]byte(sum(megabyte))), pause: little},
	{name: "Java NIO, POST of 1 MB", address: nio, request: post("/", "", megabyte), answer: with([]byte(sum(megabyte))), pause: little},

	{name: "TLS", other: library(false, "https://"+secure, false)},
	{name: "HTTP/2 with TLS", other: library(true, "https://"+secure, false)},
	{name: "HTTP/2 in the clear", other: library(true, "http://"+plain, false)},
	{name: "gRPC's way with TLS", other: library(true, "https://"+secure, true)},
	{name: "gRPC's way in the clear", other: library(true, "http://"+plain, true)},
}

// with is an answer with this body.
func with(body []byte) func(c *connection) error {
	return func(c *connection) error {
		if err := c.head(); err != nil {
			return err
		}
		return c.want(body)
	}
}

// filled is an answer with a body of so many bytes.
func filled(size int) func(c *connection) error {
	return func(c *connection) error {
		if err := c.head(); err != nil {
			return err
		}
		for left := size; left > 0; left -= len(large) {
			if err := c.want(large[:min(left, len(large))]); err != nil {
				return err
			}
		}
		return nil
	}
}

// slowly reads the large body in one to two seconds, so that drains begin in the middle
// of it.
func slowly(c *connection) error {
	if err := c.head(); err != nil {
		return err
	}
	const piece = 1 << 18
	for at := 0; at < len(large); at += piece {
		if err := c.want(large[at:min(at+piece, len(large))]); err != nil {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil
}

// chunked is 30 blocks, each a chunk, and a trailer.
func chunked(c *connection) error {
	if err := c.head(); err != nil {
		return err
	}
	chunk := fmt.Sprintf("%x\r\n%s\r\n", len(block), block)
	return c.want([]byte(strings.Repeat(chunk, 30) + "0\r\nX-Sum: " + sum(filler(30*len(block))) + "\r\n\r\n"))
}

func continued(c *connection) error {
	if err := c.want([]byte("HTTP/1.1 100 Continue\r\n\r\n")); err != nil {
		return err
	}
	return with([]byte(sum(megabyte)))(c)
}

func hinted(c *connection) error {
	if err := c.want([]byte("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n")); err != nil {
		return err
	}
	return filled(3000)(c)
}

// closes is an answer that says by itself that it is the last.
func closes(c *connection) error {
	c.like = nil
	if err := filled(3000)(c); err != nil {
		return err
	}
	if !strings.Contains(strings.Join(c.like, "\n")+"\n", "\nConnection: close\n") {
		return wrong("it does not say close: %q", c.like)
	}
	if _, err := c.in.ReadByte(); err != io.EOF {
		return wrong("after the last answer: %v", err)
	}
	c.seen.exchanged()
	return nil
}

// duplexed sends a request's body in chunks, each when the one before has come back.
func duplexed(c *connection) error {
	if err := c.head(); err != nil {
		return err
	}
	chunk := fmt.Sprintf("%x\r\n%s\r\n", len(block), block)
	for range 30 {
		if _, err := io.WriteString(c, chunk); err != nil {
			return err
		}
		if err := c.want([]byte(chunk)); err != nil {
			return ended(err)
		}
	}
	if _, err := io.WriteString(c, "0\r\n\r\n"); err != nil {
		return err
	}
	return ended(c.want([]byte("0\r\nGrpc-Status: 0\r\n\r\n")))
}

// eventful reads a stream to its end.
func eventful(c *connection) error {
	if err := c.head(); err != nil {
		return err
	}
	for n := 0; !enough(); n++ {
		text := event(n)
		if err := c.want(fmt.Appendf(nil, "%x\r\n%s\r\n", len(text), text)); err != nil {
			return ended(err)
		}
		c.seen.exchanged()
	}
	return io.EOF
}

// messages has a WebSocket tell the beginning of a block over and over.
func messages(c *connection) error {
	if err := c.want([]byte(upgraded)); err != nil {
		return err
	}
	text := block[:120]
	for !enough() {
		if _, err := c.Write(append([]byte{0x81, 0x80 | byte(len(text)), 0, 0, 0, 0}, text...)); err != nil {
			return err
		}
		if err := c.want(append([]byte{0x81, byte(len(text))}, text...)); err != nil {
			return ended(err)
		}
		c.seen.exchanged()
		time.Sleep(little)
	}
	return io.EOF
}

const connect = "CONNECT shop:80 HTTP/1.1\r\nHost: shop:80\r\n\r\n"

// tunnelled says something in a tunnel over and over.
func tunnelled(message string) func(c *connection) error {
	return func(c *connection) error {
		if err := c.want([]byte(opened)); err != nil {
			return err
		}
		for !enough() {
			if _, err := io.WriteString(c, message); err != nil {
				return err
			}
			if err := c.want([]byte(block)); err != nil {
				return ended(err)
			}
			c.seen.exchanged()
			time.Sleep(little)
		}
		return io.EOF
	}
}

// ended makes an ordinary end of one that the stop has made, where the client cannot be
// told. What came before it was right.
func ended(err error) error {
	if err != nil && strings.Contains(err.Error(), "within an answer") {
		return io.EOF
	}
	return err
}

// late sends a request in the drain.
func late(request string, answer func(c *connection) error) func(c *connection) error {
	return func(c *connection) error {
		if _, err := io.WriteString(c, request); err != nil {
			return err
		}
		return answer(c)
	}
}

// library speaks TLS or HTTP/2 on one connection by Go's own client. A connection that
// was changed in any place would end with an error of the protocol.
func library(two bool, url string, both bool) func(seen *Seen) {
	var protocols http.Protocols
	protocols.SetHTTP1(!two)
	protocols.SetHTTP2(two && strings.HasPrefix(url, "https"))
	protocols.SetUnencryptedHTTP2(two && strings.HasPrefix(url, "http:"))
	return func(seen *Seen) {
		dial := func(ctx context.Context, network, address string) (net.Conn, error) {
			atomic.AddInt64(&seen.Connections, 1)
			return new(net.Dialer).DialContext(ctx, network, address)
		}
		transport := &http.Transport{
			Protocols: &protocols, MaxConnsPerHost: 1, DialContext: dial,
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		}
		defer transport.CloseIdleConnections()
		client := &http.Client{Transport: transport, Timeout: time.Minute}
		for !enough() {
			err := fetched(client, url)
			if both {
				err = called(client, url)
			}
			if err != nil {
				if text := err.Error(); strings.HasPrefix(text, "wrong") || strings.Contains(text, "tls: ") || strings.Contains(text, "PROTOCOL") || strings.Contains(text, "malformed") {
					seen.Wrong = append(seen.Wrong, text)
				} else {
					seen.Ended++
				}
				return
			}
			seen.exchanged()
			time.Sleep(little)
		}
	}
}

func fetched(client *http.Client, url string) error {
	answer, err := client.Get(url + "/chunks?n=30")
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if want := filler(30 * len(block)); sum(text) != sum(want) || answer.Trailer.Get("X-Sum") != sum(want) {
		return wrong("%d bytes, trailer %v", len(text), answer.Trailer)
	}
	return nil
}

// called sends and gets messages by turns in one request, as gRPC does.
func called(client *http.Client, url string) error {
	in, out := io.Pipe()
	request, err := http.NewRequest("POST", url+"/duplex", in)
	if err != nil {
		return err
	}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	got := make([]byte, len(block))
	for range 10 {
		if _, err := io.WriteString(out, block); err != nil {
			return err
		}
		if _, err := io.ReadFull(answer.Body, got); err != nil {
			return err
		}
		if string(got) != block {
			return wrong("a message: %q", got)
		}
	}
	out.Close()
	if rest, err := io.ReadAll(answer.Body); err != nil || len(rest) > 0 {
		return fmt.Errorf("%d bytes more, %w", len(rest), err)
	}
	if answer.Trailer.Get("Grpc-Status") != "0" {
		return wrong("the trailer %v", answer.Trailer)
	}
	return nil
}
