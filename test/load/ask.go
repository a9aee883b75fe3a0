package load

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

// ask makes one attempt on a connection of its own. A successful attempt ends when
// the kernel has the last of the answer: not when the answer is read, nor when the
// server closes. (If the kernel takes the close together with the answer, the
// attempt ends at the close.)
func ask(o Options, deadline time.Time) (label string, kind Kind, detail string, came time.Time) {
	conn, err := dial(o.Addr, deadline)
	if err != nil {
		kind, detail = classify(err)
		return "", kind, detail, time.Time{}
	}
	defer conn.Close()
	label, kind, detail = exchange(conn, o, deadline)
	return label, kind, detail, conn.at
}

func exchange(conn net.Conn, o Options, deadline time.Time) (label string, kind Kind, detail string) {
	conn.SetDeadline(deadline)
	host, _, _ := net.SplitHostPort(o.Addr)
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: load\r\nConnection: close\r\n\r\n", o.Path, host); err != nil {
		kind, detail = classify(err)
		return "", kind, detail
	}
	// Read to the end of the stream, not of the answer, to see whether the server
	// resets the connection after its answer.
	raw, err := io.ReadAll(conn)
	if err != nil {
		kind, detail = classify(err)
		return "", kind, fmt.Sprintf("%s, after %d bytes", detail, len(raw))
	}
	return judge(raw, o.Want)
}

// judge is the kind of an answer on a connection that closed without an error.
func judge(raw []byte, want string) (label string, kind Kind, detail string) {
	if len(raw) == 0 {
		return "", EOF, "closed without an answer"
	}
	if bytes.HasPrefix(raw, []byte("HTTP/")) && !bytes.Contains(raw, []byte("\r\n\r\n")) {
		return "", EOF, fmt.Sprintf("closed within the header, after %d bytes", len(raw))
	}
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(raw)), nil)
	if err != nil {
		return "", Wrong, "not HTTP: " + err.Error()
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", EOF, fmt.Sprintf("closed within the body, after %d bytes", len(body))
	}
	label, _, _ = strings.Cut(string(body), "\n")
	label = strings.TrimSpace(label)
	if resp.StatusCode != http.StatusOK {
		return "", Wrong, resp.Status + ": " + label
	}
	if len(body) == 0 || !strings.Contains(string(body), want) {
		return "", Wrong, "another body: " + label
	}
	return label, OK, ""
}

func classify(err error) (Kind, string) {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return Timeout, err.Error()
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused, err.Error()
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return Reset, err.Error()
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return Timeout, err.Error()
	}
	return Local, err.Error()
}
