package traffic

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/units"
)

// askAt asks who listens at an address, on its port or on another.
func askAt(ctx context.Context, address net.Addr, port int, path string) error {
	group := sockets.Group{Addr: netip.MustParseAddrPort(address.String())}
	if port < 0 {
		port = int(group.Addr.Port())
	}
	return ask(ctx, []sockets.Group{group}, func(ctx context.Context, g sockets.Group) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", g.Addr.String())
	}, units.Plan{Port: port, HealthPath: path})
}

// TestHealth: 2xx and 3xx are well, and a redirection is not followed.
func TestHealth(t *testing.T) {
	for status, well := range map[int]bool{
		200: true, 204: true, 301: true, 302: true, 399: true,
		400: false, 404: false, 500: false, 503: false,
	} {
		asked := 0
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked++
			if r.Method != http.MethodGet || r.URL.RequestURI() != "/health?deep=1" {
				t.Errorf("asked %s %s", r.Method, r.URL.RequestURI())
			}
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
		}))
		err := askAt(t.Context(), server.Listener.Addr(), -1, "/health?deep=1")
		if (err == nil) != well || err != nil && !strings.Contains(err.Error(), fmt.Sprintf("answers GET /health?deep=1 with status %d on 127.0.0.1:", status)) {
			t.Errorf("%d: %v", status, err)
		}
		if asked != 1 {
			t.Errorf("%d: asked %d times", status, asked)
		}
		server.Close()
	}
}

// TestHost: an app that knows only its own names is asked by one of them.
func TestHost(t *testing.T) {
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked = append(asked, r.Host) }))
	defer server.Close()
	group := sockets.Group{Addr: netip.MustParseAddrPort(server.Listener.Addr().String())}
	for _, host := range []string{"", "shop.example", "[::1]:443"} {
		plan := units.Plan{HealthPath: "/", HealthHost: host}
		if err := ask(t.Context(), []sockets.Group{group}, func(ctx context.Context, g sockets.Group) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", g.Addr.String())
		}, plan); err != nil {
			t.Errorf("%q: %v", host, err)
		}
	}
	if want := []string{fmt.Sprintf("localhost:%d", group.Addr.Port()), "shop.example", "[::1]:443"}; !slices.Equal(asked, want) {
		t.Errorf("%q, want %q", asked, want)
	}
}

// TestNoAnswer: what is wrong with who does not answer, in words.
func TestNoAnswer(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	// It takes connections, but nobody reads from them.
	if err := askAt(t.Context(), listener.Addr(), -1, ""); err != nil {
		t.Error(err)
	}
	for port, want := range map[int]string{-1: "does not answer GET /: no answer in time", 1: ""} {
		if err := askAt(ctx, listener.Addr(), port, "/"); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("hangs, port %d: %v", port, err)
		}
	}

	resets, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer resets.Close()
	go func() {
		for {
			conn, err := resets.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1))
			_ = conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
		}
	}()
	if err := askAt(t.Context(), resets.Addr(), -1, "/"); err == nil || !strings.Contains(err.Error(), "connection reset") {
		t.Errorf("resets: %v", err)
	}

	gone := listener.Addr()
	listener.Close()
	for path, want := range map[string]string{"": "does not take a connection on", "/": "does not answer GET /: connection refused"} {
		if err := askAt(t.Context(), gone, -1, path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("refuses, %q: %v", path, err)
		}
	}
}
