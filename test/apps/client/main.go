// Command client asks a URL again and again with Go's net/http, which keeps its
// connection, until the file /run/enough appears. It prints how often it has asked, how
// many connections it has made, and each failure.
//
//	client METHOD PAUSE URL
//
// PAUSE is between two requests, in seconds. A request that the Transport has repeated by
// itself is a failure.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"strconv"
	"strings"
	"time"
)

// seen is what the client has seen.
type seen struct {
	Asked       int      `json:"asked"`
	Connections int      `json:"connections"`
	Failed      []string `json:"failed"`
}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: client METHOD PAUSE URL")
		os.Exit(2)
	}
	seconds, err := strconv.ParseFloat(os.Args[2], 64)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	var s seen
	for !exists("/run/enough") {
		if err := s.ask(os.Args[1], os.Args[3]); err != nil {
			s.Failed = append(s.Failed, err.Error())
		}
		time.Sleep(time.Duration(seconds * float64(time.Second)))
	}
	if err := json.NewEncoder(os.Stdout).Encode(s); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// ask makes one request.
func (s *seen) ask(method, url string) error {
	var body io.Reader
	if method == http.MethodPost {
		body = strings.NewReader(strings.Repeat("x", 1000))
	}
	request, err := http.NewRequest(method, url, body)
	if err != nil {
		return err
	}
	attempts := 0
	trace := &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) {
		attempts++
		if !c.Reused {
			s.Connections++
		}
	}}
	answer, err := http.DefaultClient.Do(request.WithContext(httptrace.WithClientTrace(request.Context(), trace)))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	s.Asked++
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", answer.StatusCode)
	}
	if attempts != 1 {
		return fmt.Errorf("repeated: %d attempts", attempts)
	}
	return nil
}
