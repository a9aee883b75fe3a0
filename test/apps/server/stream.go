package main

import (
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// every is how often a request wants to be told something, 0 for never.
func every(r *http.Request) time.Duration {
	d, _ := time.ParseDuration(r.URL.Query().Get("every"))
	return d
}

// events is a stream of server-sent events, which never ends.
func events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	for {
		fmt.Fprintf(w, "data: %s\n\n", time.Now().Format(time.RFC3339))
		w.(http.Flusher).Flush()
		select {
		case <-time.After(every(r)):
		case <-r.Context().Done():
			return
		}
	}
}

// goodbyes has for each WebSocket what closes it.
var goodbyes sync.Map

// sayGoodbye closes all WebSockets.
func sayGoodbye() {
	goodbyes.Range(func(_, close any) bool {
		close.(func())()
		return true
	})
}

// webSocket speaks the WebSocket protocol (RFC 6455), with messages of less than 126
// bytes.
func webSocket(w http.ResponseWriter, r *http.Request) {
	const guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
	accept := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + guid))
	conn, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(accept[:]))
	var mu sync.Mutex
	say := func(message []byte) error {
		mu.Lock()
		defer mu.Unlock()
		_, err := conn.Write(append([]byte{0x81, byte(len(message))}, message...))
		return err
	}
	goodbyes.Store(conn, func() {
		mu.Lock()
		defer mu.Unlock()
		_, _ = conn.Write([]byte{0x88, 2, 0x03, 0xe9}) // 1001: it goes away
	})
	defer goodbyes.Delete(conn)
	if pause := every(r); pause > 0 {
		go func() {
			for say([]byte("tick")) == nil {
				time.Sleep(pause)
			}
		}()
	}
	for {
		frame := make([]byte, 2+4) // with the client's mask
		if _, err := io.ReadFull(buffered, frame); err != nil {
			return
		}
		message := make([]byte, frame[1]&0x7f)
		if _, err := io.ReadFull(buffered, message); err != nil {
			return
		}
		for i := range message {
			message[i] ^= frame[2+i%4]
		}
		if say(message) != nil {
			return
		}
	}
}
