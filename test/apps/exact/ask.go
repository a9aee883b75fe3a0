package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Seen is what became of a conversation.
type Seen struct {
	Name        string
	Connections int64
	Exchanges   int // complete and right
	Told        int // of the connections: an answer said that it closes
	Ended       int // of the connections: broke off, or ended without such an answer
	Wrong       []string

	first func() // called at the first exchange
}

func (s *Seen) exchanged() {
	s.Exchanges++
	s.first()
}

// errWrong is an exchange in which something else came than was sent.
var errWrong = errors.New("wrong")

func wrong(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errWrong}, args...)...)
}

func enough() bool   { return exists("/run/enough") }
func draining() bool { return exists("/run/draining") }

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// askAll has all conversations. When each of them goes on, it makes the file
// /run/going.
func askAll() []*Seen {
	var all []*Seen
	var group, going sync.WaitGroup
	going.Add(len(talks))
	for _, t := range talks {
		seen := &Seen{Name: t.name, first: sync.OnceFunc(going.Done)}
		all = append(all, seen)
		group.Go(func() { t.run(seen) })
	}
	go func() {
		going.Wait()
		os.WriteFile("/run/going", nil, 0o644)
	}()
	group.Wait()
	return all
}

// A talk is a conversation: the same exchange again and again on a connection, and on
// the next one when that has ended.
type talk struct {
	name    string
	address string
	request string
	// answer reads and checks what comes, when the request was sent.
	answer func(c *connection) error
	pause  time.Duration // between two exchanges
	// inDrain, if there is one, is what is had on the one connection that waits until the
	// drain has begun.
	inDrain func(c *connection) error
	mptcp   bool
	other   func(seen *Seen) // instead: speaks something else than plain HTTP/1
}

func (t *talk) run(seen *Seen) {
	defer seen.first() // whoever waits for it is told what is wrong
	for !enough() && len(seen.Wrong) < 10 {
		if t.other != nil {
			t.other(seen)
			continue
		}
		err := t.connection(seen)
		if errors.Is(err, errWrong) {
			seen.Wrong = append(seen.Wrong, err.Error())
		} else if err != nil {
			seen.Ended++
		}
		if t.inDrain != nil && draining() {
			return
		}
	}
}

// connection has exchanges on one connection until it has ended or was told to close.
func (t *talk) connection(seen *Seen) error {
	dialer := net.Dialer{Timeout: 10 * time.Second}
	dialer.SetMultipathTCP(t.mptcp)
	conn, err := dialer.Dial("tcp", t.address)
	if err != nil {
		return wrong("%v", err)
	}
	defer conn.Close()
	seen.Connections++
	c := &connection{Conn: conn, in: bufio.NewReaderSize(conn, 4096), seen: seen}
	for !enough() {
		conn.SetDeadline(time.Now().Add(time.Minute))
		if _, err := io.WriteString(conn, t.request); err != nil {
			return err
		}
		if err := t.answer(c); err != nil {
			return err
		}
		seen.exchanged()
		if c.told {
			seen.Told++
			return nil
		}
		if t.inDrain != nil {
			for !draining() {
				if enough() {
					return nil
				}
				time.Sleep(10 * time.Millisecond)
			}
			return t.inDrain(c)
		}
		time.Sleep(t.pause)
	}
	return nil
}

// A connection is one on which the client sees each byte.
type connection struct {
	net.Conn
	in   *bufio.Reader
	seen *Seen
	like []string // the lines of the first head
	told bool     // the last head was told to close, in place of another line
}

// mayGo are the lines that may be given up.
var mayGo = regexp.MustCompile(`^(?i:connection: keep-alive|server: .*|date: .*)$`)

// theDate is the one line that differs between answers by itself.
var theDate = regexp.MustCompile(`^(?i:date): .{3}, .. .{3} .... ..:..:.. GMT$`)

// head reads a head and compares it with the first one on this connection: it may differ
// by one line of the same length that was given up.
func (c *connection) head() error {
	var lines []string
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			return broken(err, len(lines) > 0 || line != "")
		}
		if line == "\r\n" {
			break
		}
		lines = append(lines, strings.TrimSuffix(line, "\r\n"))
	}
	if !strings.HasPrefix(lines[0], "HTTP/1.1 ") {
		return wrong("the head %q", lines)
	}
	if c.like == nil {
		c.like = lines
		// A connection may be told by its first answer.
		c.told = slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "Connection: close ") })
		return nil
	}
	if len(lines) != len(c.like) {
		return wrong("the head %q was %q before", lines, c.like)
	}
	for i, line := range lines {
		switch was := c.like[i]; {
		case line == was, theDate.MatchString(line) && theDate.MatchString(was):
		case !c.told && mayGo.MatchString(was) && line == "Connection: close"+strings.Repeat(" ", max(0, len(was)-len("Connection: close"))):
			c.told = true
		default:
			return wrong("the head %q was %q before", lines, c.like)
		}
	}
	return nil
}

// broken is what is wrong if the connection ends: within an answer, everything.
func broken(err error, within bool) error {
	if within {
		return wrong("within an answer: %v", err)
	}
	return err
}

// want reads as many bytes as text has, and compares them.
func (c *connection) want(text []byte) error {
	got := make([]byte, 64<<10)
	for at := 0; at < len(text); {
		n, err := c.in.Read(got[:min(len(got), len(text)-at)])
		if !bytes.Equal(got[:n], text[at:at+n]) {
			return wrong("after byte %d: %.300q", at, got[:n])
		}
		at += n
		if err != nil && at < len(text) {
			return broken(err, true)
		}
	}
	return nil
}
