package load

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// kept is one worker's connection. With Options.Keep the worker asks again and again
// on the same connection.
type kept struct {
	conn   *stamped
	in     *bufio.Reader
	closed int // connections that were found closed
}

func (k *kept) close() {
	if k.conn != nil {
		k.conn.Close()
	}
	k.conn = nil
}

// ask makes one attempt, on the connection of the attempt before unless the server
// said that it would close that one. It repeats nothing: a connection that turns
// out to be closed is a failure, as it is for a client that must not repeat.
func (k *kept) ask(o Options, deadline time.Time) (label string, kind Kind, detail string, came time.Time) {
	if o.Look && k.conn != nil && k.conn.ended() {
		k.closed++
		k.close()
	}
	reused := k.conn != nil
	if !reused {
		conn, err := dial(o.Addr, deadline)
		if err != nil {
			kind, detail = classify(err)
			return "", kind, detail, time.Time{}
		}
		k.conn, k.in = conn, bufio.NewReader(conn)
	}
	label, kind, detail, again := k.exchange(o, deadline)
	came = k.conn.at
	if !again {
		k.close()
	}
	if reused && detail != "" {
		detail += ", on a kept connection"
	}
	return label, kind, detail, came
}

func (k *kept) exchange(o Options, deadline time.Time) (label string, kind Kind, detail string, again bool) {
	fail := func(err error) (string, Kind, string, bool) {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return "", EOF, "closed before the whole answer had come", false
		}
		kind, detail := classify(err)
		return "", kind, detail, false
	}
	k.conn.SetDeadline(deadline)
	host, _, _ := net.SplitHostPort(o.Addr)
	method, rest := http.MethodGet, "\r\n"
	if o.Post > 0 {
		method = http.MethodPost
		rest = fmt.Sprintf("Content-Length: %d\r\n\r\n%s", o.Post, strings.Repeat("x", o.Post))
	}
	_, err := fmt.Fprintf(k.conn, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: load\r\n%s", method, o.Path, host, rest)
	if err != nil {
		return fail(err)
	}
	resp, err := http.ReadResponse(k.in, nil)
	if err != nil {
		return fail(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return fail(err)
	}
	label, _, _ = strings.Cut(string(body), "\n")
	label = strings.TrimSpace(label)
	again = !resp.Close || o.Stay
	if resp.StatusCode != http.StatusOK {
		return "", Wrong, resp.Status + ": " + label, again
	}
	if len(body) == 0 || !strings.Contains(string(body), o.Want) {
		return "", Wrong, "another body: " + label, again
	}
	return label, OK, "", again
}
