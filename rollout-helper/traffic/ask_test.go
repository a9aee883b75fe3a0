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

// getAt makes a health check of who listens at an address.
func getAt(ctx context.Context, address net.Addr, path, host string) error {
	group := sockets.Group{Addr: netip.MustParseAddrPort(address.String())}
	return get(ctx, group, func(ctx context.Context, g sockets.Group) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", g.Addr.String())
	}, path, host)
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
		err := getAt(t.Context(), server.Listener.Addr(), "/health?deep=1", "")
		if (err == nil) != well || err != nil && err.Error() != fmt.Sprintf("answers GET /health?deep=1 with status %d", status) {
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
	for _, host := range []string{"", "shop.example", "[::1]:443"} {
		if err := getAt(t.Context(), server.Listener.Addr(), "/", host); err != nil {
			t.Errorf("%q: %v", host, err)
		}
	}
	if want := []string{fmt.Sprintf("localhost:%d", server.Listener.Addr().(*net.TCPAddr).Port), "shop.example", "[::1]:443"}; !slices.Equal(asked, want) {
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
	if err := getAt(ctx, listener.Addr(), "/", ""); err == nil || err.Error() != "does not answer GET /: no answer in time" {
		t.Errorf("hangs: %v", err)
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
	if err := getAt(t.Context(), resets.Addr(), "/", ""); err == nil || !strings.Contains(err.Error(), "connection reset") {
		t.Errorf("resets: %v", err)
	}

	gone := listener.Addr()
	listener.Close()
	if err := getAt(t.Context(), gone, "/", ""); err == nil || err.Error() != "does not answer GET /: connection refused" {
		t.Errorf("refuses: %v", err)
	}
}

// TestAsked: where a unit is asked.
func TestAsked(t *testing.T) {
	at := func(addresses ...string) (groups []sockets.Group) {
		for _, a := range addresses {
			groups = append(groups, sockets.Group{Addr: netip.MustParseAddrPort(a)})
		}
		return groups
	}
	own := at("0.0.0.0:80", "[::]:80", "0.0.0.0:81", "0.0.0.0:82")
	for _, test := range []struct {
		what            string
		plan            units.Plan
		shared, steered []sockets.Group
		want            []sockets.Group
	}{
		{"health check", units.Plan{Port: 80, HealthPath: "/"}, at("0.0.0.0:80", "0.0.0.0:81"), own, at("0.0.0.0:80", "[::]:80")},
		{"port", units.Plan{Port: 80}, nil, own, at("0.0.0.0:80", "[::]:80")},
		{"port, and what is shared", units.Plan{Port: 80}, at("0.0.0.0:80", "0.0.0.0:81"), own, at("0.0.0.0:80", "[::]:80", "0.0.0.0:81")},
		{"shared", units.Plan{}, at("0.0.0.0:82"), own, at("0.0.0.0:82")},
		{"nothing is known", units.Plan{}, nil, at("0.0.0.0:81"), at("0.0.0.0:81")},
		{"nothing is known, nor steered", units.Plan{}, nil, nil, nil},
	} {
		if got := asked(own, test.shared, test.steered, test.plan); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", test.what, got, test.want)
		}
	}
}
