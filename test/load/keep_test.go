package load

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestKeep: one connection serves many attempts, until the server closes it. The
// close is a failure only if the server did not announce it.
func TestKeep(t *testing.T) {
	for _, c := range []struct {
		name, header string
		stay         bool
		lost         bool
	}{
		{"announced", "Connection: close\r\n", false, false},
		{"announced, to a client that stays", "Connection: close\r\n", true, true},
		{"not announced", "", false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					in := bufio.NewReader(conn)
					for i := range 5 {
						request, err := http.ReadRequest(in)
						if err != nil {
							break
						}
						io.Copy(io.Discard, request.Body)
						header := ""
						if i == 4 {
							header = c.header
						}
						fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\n%sContent-Length: 3\r\n\r\nok\n", header)
					}
					conn.Close()
				}
			}()
			ctx, cancel := context.WithCancel(context.Background())
			report := make(chan *Report)
			counts := make(chan map[Kind]int, 1000)
			go func() {
				report <- Run(ctx, Options{Addr: l.Addr().String(), Workers: 2, Keep: true, Stay: c.stay, Post: 10, Pause: time.Millisecond}, func(k map[Kind]int) {
					counts <- k
				})
			}()
			for k := range counts {
				if k[OK] > 100 {
					break
				}
			}
			cancel()
			r := <-report
			if lost := r.Lost() > 0; lost != c.lost {
				t.Errorf("%v: %v", r, r.Failures)
			}
		})
	}
}

// TestPost: the server gets what is to be posted.
func TestPost(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintln(w, r.Method, len(body))
	})}
	go server.Serve(l)
	defer server.Close()
	for post, want := range map[int]string{0: "GET 0", 1000: "POST 1000"} {
		var k kept
		defer k.close()
		o := Options{Addr: l.Addr().String(), Path: "/", Post: post, Keep: true}
		for range 2 {
			if label, kind, detail, _ := k.ask(o, time.Now().Add(10*time.Second)); label != want {
				t.Errorf("%s %q %s, want %q", kind, label, detail, want)
			}
		}
	}
}

// TestLook: a connection that the server has closed at rest is replaced before the next
// attempt, and counted.
func TestLook(t *testing.T) {
	closes, closed := make(chan bool), make(chan bool)
	addr := serve(t, func(c *net.TCPConn) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n")
		<-closes
		c.Close()
		closed <- true
	})
	for _, look := range []bool{true, false} {
		var k kept
		o := Options{Addr: addr, Path: "/", Keep: true, Look: look}
		deadline := time.Now().Add(10 * time.Second)
		if _, kind, detail, _ := k.ask(o, deadline); kind != OK {
			t.Fatalf("%s %s", kind, detail)
		}
		if k.conn.ended() {
			t.Error("ended, before the server has closed")
		}
		closes <- true
		<-closed
		for !k.conn.ended() {
			if time.Now().After(deadline) {
				t.Fatal("not ended, after the server has closed")
			}
		}
		_, kind, detail, _ := k.ask(o, deadline)
		if look != (kind == OK) || look != (k.closed == 1) {
			t.Errorf("look %v: %s %s, %d found closed", look, kind, strings.TrimSpace(detail), k.closed)
		}
		if look {
			closes <- true
			<-closed
		}
		k.close()
	}
}
