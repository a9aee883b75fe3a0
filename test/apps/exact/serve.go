package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"
)

func serve() error {
	port, err := strconv.Atoi(os.Getenv("PORT"))
	if err != nil {
		return err
	}
	certificate, err := selfSigned()
	if err != nil {
		return err
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Handler:   handler(),
		Protocols: &protocols,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}},
	}
	ended := make(chan error)
	for i := range 2 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+i))
		if err != nil {
			return err
		}
		go func() {
			if i == 0 {
				ended <- server.Serve(l)
			} else {
				ended <- server.ServeTLS(l, "", "")
			}
		}()
	}
	return <-ended
}

// selfSigned makes a certificate that nobody has signed.
func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

func handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/body", body)
	mux.HandleFunc("/chunks", chunks)
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		http.ServeFile(w, r, "/opt/exact/large")
	})
	mux.HandleFunc("/upload", upload)
	mux.HandleFunc("/duplex", duplex)
	mux.HandleFunc("/events", events)
	mux.HandleFunc("/upgrade", upgrade)
	mux.HandleFunc("/hints", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		body(w, r)
	})
	mux.HandleFunc("/status", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(number(r, "code"))
	})
	mux.HandleFunc("/closes", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		body(w, r)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodConnect {
			tunnel(w)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func number(r *http.Request, name string) int {
	n, _ := strconv.Atoi(r.URL.Query().Get(name))
	return n
}

// body answers with size bytes.
func body(w http.ResponseWriter, r *http.Request) {
	size := number(r, "size")
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Content-Length", strconv.Itoa(size))
	for size > 0 {
		n, err := w.Write(large[:min(size, len(large))])
		if err != nil {
			return
		}
		size -= n
	}
}

// chunks answers with n blocks, a chunk and a packet each, and with a trailer.
func chunks(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Trailer", "X-Sum")
	n := number(r, "n")
	for range n {
		io.WriteString(w, block)
		w.(http.Flusher).Flush()
		if pause := number(r, "pause"); pause > 0 {
			time.Sleep(time.Duration(pause) * time.Millisecond)
		}
	}
	w.Header().Set("X-Sum", sum(filler(n*len(block))))
}

// upload answers with the sum of what it is sent.
func upload(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	io.WriteString(w, sum(text))
}

func sum(text []byte) string { return fmt.Sprintf("%x", sha256.Sum256(text)) }

// duplex sends back what it is sent, while it is sent. The status follows as gRPC has
// it, in a trailer.
func duplex(w http.ResponseWriter, r *http.Request) {
	http.NewResponseController(w).EnableFullDuplex()
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status")
	w.(http.Flusher).Flush()
	buffer := make([]byte, 16<<10)
	for {
		n, err := r.Body.Read(buffer)
		w.Write(buffer[:n])
		w.(http.Flusher).Flush()
		if err != nil {
			break
		}
	}
	w.Header().Set("Grpc-Status", "0")
}

// events never ends.
func events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	for n := 0; r.Context().Err() == nil; n++ {
		io.WriteString(w, event(n))
		w.(http.Flusher).Flush()
		time.Sleep(20 * time.Millisecond)
	}
}

func event(n int) string {
	return fmt.Sprintf("id: %d\r\ndata: HTTP/1.1 200 OK\r\ndata: Connection: keep-alive\r\n\r\n", n)
}

// upgrade sends back each message of a WebSocket of less than 126 bytes (RFC 6455).
func upgrade(w http.ResponseWriter, r *http.Request) {
	conn, in, err := hijack(w, upgraded)
	if err != nil {
		return
	}
	defer conn.Close()
	for {
		frame := make([]byte, 2+4) // with the client's mask
		if _, err := io.ReadFull(in, frame); err != nil {
			return
		}
		message := make([]byte, frame[1]&0x7f)
		if _, err := io.ReadFull(in, message); err != nil {
			return
		}
		for i := range message {
			message[i] ^= frame[2+i%4]
		}
		conn.Write(append([]byte{0x81, byte(len(message))}, message...))
	}
}

const (
	upgraded = "HTTP/1.1 101 Switching Protocols\r\nDate: Tue, 01 Dec 2026 10:00:00 GMT\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
	opened   = "HTTP/1.1 200 OK\r\nDate: Tue, 01 Dec 2026 10:00:00 GMT\r\n\r\n"
)

// tunnel is a tunnel to a server that answers each message, up to a blank line, with a
// block.
func tunnel(w http.ResponseWriter) {
	conn, in, err := hijack(w, opened)
	if err != nil {
		return
	}
	defer conn.Close()
	for {
		for line := ""; line != "\r\n"; {
			if line, err = in.ReadString('\n'); err != nil {
				return
			}
		}
		io.WriteString(conn, block)
	}
}

func hijack(w http.ResponseWriter, answer string) (net.Conn, *bufio.Reader, error) {
	conn, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return nil, nil, err
	}
	_, err = io.WriteString(conn, answer)
	return conn, buffered.Reader, err
}
