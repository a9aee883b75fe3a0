package load

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const head = "HTTP/1.1 200 OK\r\nConnection: close\r\n"

// serve answers each connection's request by answer, then closes it.
func serve(t *testing.T, answer func(conn *net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for request := ""; !strings.HasSuffix(request, "\r\n\r\n"); {
					buffer := make([]byte, 1024)
					n, err := conn.Read(buffer)
					if err != nil {
						return
					}
					request += string(buffer[:n])
				}
				answer(conn.(*net.TCPConn))
			}()
		}
	}()
	return l.Addr().String()
}

func TestKinds(t *testing.T) {
	text := func(s string) func(*net.TCPConn) { return func(c *net.TCPConn) { io.WriteString(c, s) } }
	tests := []struct {
		name   string
		answer func(*net.TCPConn)
		kind   Kind
		label  string
	}{
		{"ok", text(head + "Content-Length: 7\r\n\r\ng1 2 3\n"), OK, "g1 2 3"},
		{"ok, until the end of the stream", text(head + "\r\ng1 2 3\nmore\n"), OK, "g1 2 3"},
		{"ok, chunked", text(head + "Transfer-Encoding: chunked\r\n\r\n3\r\ng1 \r\n4\r\n2 3\n\r\n0\r\n\r\n"), OK, "g1 2 3"},
		{"nothing", func(*net.TCPConn) {}, EOF, ""},
		{"half a header", text("HTTP/1.1 200 OK\r\nConte"), EOF, ""},
		{"half a body", text(head + "Content-Length: 7\r\n\r\ng1 "), EOF, ""},
		{"half of the chunks", text(head + "Transfer-Encoding: chunked\r\n\r\n3\r\ng1 \r\n"), EOF, ""},
		{"reset at once", func(c *net.TCPConn) { c.SetLinger(0) }, Reset, ""},
		{"reset after an answer without a length", func(c *net.TCPConn) {
			io.WriteString(c, head+"\r\ng1 2 3\n")
			c.SetLinger(0)
		}, Reset, ""},
		{"never", func(c *net.TCPConn) { io.Copy(io.Discard, c) }, Timeout, ""},
		{"half, then never", func(c *net.TCPConn) {
			io.WriteString(c, head)
			io.Copy(io.Discard, c)
		}, Timeout, ""},
		{"another status", text("HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 7\r\n\r\ng1 2 3\n"), Wrong, ""},
		{"another body", text(head + "Content-Length: 3\r\n\r\nx1\n"), Wrong, ""},
		{"an empty body", text(head + "Content-Length: 0\r\n\r\n"), Wrong, ""},
		{"not HTTP", text("220 mail\r\n\r\n"), Wrong, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := Options{Addr: serve(t, test.answer), Path: "/", Want: "g1"}
			label, kind, detail, _ := ask(o, time.Now().Add(200*time.Millisecond))
			if kind != test.kind || label != test.label {
				t.Errorf("%s %q (%s), want %s %q", kind, label, detail, test.kind, test.label)
			}
		})
	}
	t.Run("nobody", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		if _, kind, detail, _ := ask(Options{Addr: l.Addr().String()}, time.Now().Add(time.Second)); kind != Refused {
			t.Errorf("%s (%s), want %s", kind, detail, Refused)
		}
	})
}

// Every request that a server counts is in the report, once.
func TestRun(t *testing.T) {
	var mux http.ServeMux
	counts := make(chan int, 1)
	counts <- 0
	enough, cancel := context.WithCancel(context.Background())
	defer cancel()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		n := <-counts + 1
		counts <- n
		if n == 500 {
			cancel()
		}
		fmt.Fprintf(w, "g%d\n", n%2)
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: &mux}
	go server.Serve(l)
	defer server.Close()

	report := Run(enough, Options{Addr: l.Addr().String(), Workers: 8, Timeline: true}, nil)
	if n := <-counts; report.Answered() != n || report.Lost() != 0 || len(report.Answers) != n ||
		report.Labels["g0"]+report.Labels["g1"] != n {
		t.Errorf("%v (labels %v, %d in the time line), want %d answered, 0 lost", report, report.Labels, len(report.Answers), n)
	}
	if report.P50 <= 0 || report.P50 > report.P99 || report.P999 > report.Max {
		t.Errorf("latencies: %v %v %v %v", report.P50, report.P99, report.P999, report.Max)
	}
	whole := report.Between(time.Unix(0, report.Start), time.Unix(0, report.End+1))
	middle := time.Unix(0, (report.Start+report.End)/2)
	if whole.Answered() != report.Answered() || whole.Max != report.Max {
		t.Errorf("between its start and end: %v, want %v", whole, report)
	}
	if first := report.Between(time.Unix(0, report.Start), middle); first.Answered() == 0 || first.Answered() >= whole.Answered() {
		t.Errorf("the first half: %v of %v", first, whole)
	}
}

// The command reports the same as the package, and ends when its input ends.
func TestCommand(t *testing.T) {
	program := filepath.Join(t.TempDir(), "load")
	if out, err := exec.Command("go", "build", "-o", program, "./cmd/load").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	addr := serve(t, func(c *net.TCPConn) { io.WriteString(c, head+"Content-Length: 3\r\n\r\ng1\n") })
	cmd := exec.Command(program, "-addr", addr, "-workers", "2")
	cmd.Stderr = os.Stderr
	client, err := Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for client.Answered() == 0 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	report, err := client.Stop()
	if err != nil {
		t.Fatal(err)
	}
	if report.Labels["g1"] == 0 || report.Lost() > 0 || len(report.Answers) > 0 {
		text, _ := json.Marshal(report)
		t.Errorf("%s", text)
	}
}

// TestOnce: each worker makes one attempt, and Run still waits to be told to end.
func TestOnce(t *testing.T) {
	addr := serve(t, func(c *net.TCPConn) { io.WriteString(c, head+"\r\ng1 2 3\n") })
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	const workers = 3
	report := Run(ctx, Options{Addr: addr, Workers: workers, Once: true}, func(k map[Kind]int) {
		if k[OK] >= workers {
			cancel()
		}
	})
	if report.Answered() != workers || report.Lost() > 0 {
		t.Errorf("%v, want %d answered", report, workers)
	}
}
