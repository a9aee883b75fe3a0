//go:build story

package test

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"app-rollout/test/load"
	"app-rollout/test/machine"
)

// keepers are clients that keep their connections, by the command that runs each. The
// method, the pause in seconds and the URL follow.
var keepers = []string{
	"/usr/bin/python3 /opt/apps/clients.py http.client",
	"/usr/bin/python3 /opt/apps/clients.py requests",
	"/usr/bin/python3 /opt/apps/clients.py httpx",
	"/usr/bin/python3 /opt/apps/clients.py aiohttp",
	"/usr/bin/python3 /opt/apps/clients.py curl",
	"/usr/local/bin/node /opt/apps/clients.js fetch",
	"/usr/local/bin/node /opt/apps/clients.js agent",
	"/opt/apps/client",
	"/usr/bin/java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC /opt/apps/Clients.java",
}

// proxies keep their connections to the app, by the command that runs each before it, on
// a port of its own. nginx and haproxy are not to ask a second time. Caddy does: a GET whose
// connection has died is repeated by Go's own client.
var proxies = []struct{ name, port, file, text, exec string }{
	{"nginx", "8081", "/run/front/nginx.conf", `pid /run/front/nginx.pid; error_log stderr; daemon off;
events {}
http {
	access_log off;
	upstream app { server 127.0.0.1:8080; keepalive 16; }
	server {
		listen 127.0.0.1:8081;
		location / { proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_next_upstream off; }
	}
}
`, "nginx -c /run/front/nginx.conf"},
	{"haproxy", "8082", "/run/front/haproxy.cfg", `defaults
	mode http
	retries 0
	timeout connect 5s
	timeout client 30s
	timeout server 30s
frontend front
	bind 127.0.0.1:8082
	default_backend app
backend app
	http-reuse always
	server app 127.0.0.1:8080
`, "haproxy -db -f /run/front/haproxy.cfg"},
	{"caddy", "8083", "/run/front/Caddyfile", `{
	admin off
}
http://127.0.0.1:8083 {
	reverse_proxy 127.0.0.1:8080
}
`, "caddy run --config /run/front/Caddyfile --adapter caddyfile"},
}

// TestKeptClients: real clients, and real proxies before the app, keep their connections
// while an app that dies of its stop signal is rolled out. They are told to close, and
// believe it: none loses a request, and no client repeats one.
func TestKeptClients(t *testing.T) {
	t.Parallel()
	shop := serversMachine(t, machine.GoClient(t))
	for _, p := range proxies {
		shop.Write(p.file, p.text, 0o644)
		shop.Sh("systemd-run --quiet --unit=front-" + p.name + " --setenv=HOME=/tmp " + p.exec)
	}
	lines := []string{"STOP=die", "SYSTEMD_CLUSTER_DRAIN_SEC=10"}
	shop.deploy(append(lines, "GENERATION=g1")...)

	type told struct {
		name string
		machine.Result
	}
	results := make(chan told)
	n := 0
	for _, command := range keepers {
		for _, how := range []string{"GET 0", "POST 0.05"} {
			n++
			go func() {
				name := command + " " + how
				results <- told{name, shop.Run(context.Background(), "sh", "-c", "exec "+name+" http://"+port+"/")}
			}()
		}
	}
	// Some take seconds to start. All are to be there in each rollout.
	shop.Wait("connections", time.Minute, func() bool { return shop.established() >= n })
	direct := shop.Load(load.Options{Addr: port, Workers: 4, Want: "g", Timeline: true, Keep: true})
	behind := make(map[string]*machine.Load)
	for _, p := range proxies {
		shop.Wait(p.name, 20*time.Second, func() bool {
			return shop.Run(context.Background(), "sh", "-c", "ss -Hltn 'sport = :"+p.port+"' | grep -q .").Code == 0
		})
		behind[p.name] = shop.Load(load.Options{Addr: "127.0.0.1:" + p.port, Workers: 4, Want: "g", Keep: true, Pause: 5 * time.Millisecond})
	}
	shop.more(direct, 100)
	for g := 2; g <= 6; g++ {
		shop.deploy(append(lines, fmt.Sprintf("GENERATION=g%d", g))...)
		record := shop.receipt("current").Rollout
		t.Logf("generation %d: %s", g, record.Connections())
		if record.Cut > 0 || record.ToldToClose == 0 {
			t.Errorf("generation %d: %s", g, record.Connections())
		}
		for _, step := range record.Steps {
			if step.Name == "drain" && step.Milliseconds >= 10_000 {
				t.Errorf("generation %d: the drain took its whole time, %.0f ms", g, step.Milliseconds)
			}
		}
		shop.more(direct, 100)
	}
	shop.Sh("touch /run/enough")
	for range n {
		r := <-results
		seen := asked(t, r.Result)
		t.Logf("%s: %d asked on %d connections, %d failed", r.name, seen.Asked, seen.Connections, len(seen.Failed))
		if seen.Asked == 0 || len(seen.Failed) > 0 {
			t.Errorf("%s: %d asked, failed: %s", r.name, seen.Asked, strings.Join(seen.Failed, "; "))
		}
		if seen.Asked < 5*seen.Connections {
			t.Errorf("%s kept no connection: %d for %d requests", r.name, seen.Connections, seen.Asked)
		}
	}
	nothingLost(t, direct.Stop())
	for name, client := range behind {
		t.Log(name)
		nothingLost(t, client.Stop())
	}
}

// paths are ways from a client in a network namespace of its own to the app. Each is
// made anew for each of them: a pair of interfaces, one of which is here.
var paths = []struct{ name, how, url string }{
	{"veth", "", "http://10.9.0.1:8080/"},
	{"veth, IPv6", "", "http://[fd09::1]:8080/"},
	{"veth without offloads", "ethtool -K here tso off gso off gro off tx off rx off; ip netns exec client ethtool -K there tso off gso off gro off tx off rx off", "http://10.9.0.1:8080/"},
	{"small packets", "ip link set here mtu 600; ip netns exec client ip link set there mtu 600", "http://10.9.0.1:8080/"},
	{"bridge", "ip link add bridge0 type bridge; ip link set here master bridge0; ip addr flush dev here; ip addr add 10.9.0.1/24 dev bridge0; ip link set bridge0 up", "http://10.9.0.1:8080/"},
	// Every fifth packet that the app sends is dropped behind the place where answers are
	// changed, and sent again by the kernel.
	{"loss", `nft add table inet lossy; nft add chain inet lossy in '{ type filter hook prerouting priority -300; }'; nft add rule inet lossy in iif lo tcp sport 8080 tcp flags psh numgen inc mod 5 == 0 drop`, "http://127.0.0.1:8080/"},
}

// TestPaths: clients on real network paths are told to close, lose nothing, and get no
// packet with a wrong checksum.
func TestPaths(t *testing.T) {
	t.Parallel()
	shop := serversMachine(t)
	lines := []string{"STOP=die", "SYSTEMD_CLUSTER_DRAIN_SEC=10", "LISTEN=[::]:PORT"}
	shop.deploy(append(lines, "GENERATION=g1")...)
	generation := 1
	for _, p := range paths {
		t.Run(p.name, func(t *testing.T) {
			shop := shop.other(t, "shop")
			shop.Sh(`set -e; rm -f /run/enough; ip netns add client
ip link add here type veth peer name there netns client; ip link set here up; ip addr add 10.9.0.1/24 dev here; ip -6 addr add fd09::1/64 dev here nodad
ip netns exec client sh -c 'ip link set lo up; ip link set there up; ip addr add 10.9.0.2/24 dev there; ip -6 addr add fd09::2/64 dev there nodad'`)
			if p.how != "" {
				shop.Sh(p.how)
			}
			where := "ip netns exec client "
			if strings.Contains(p.url, "127.0.0.1") {
				where = ""
			}
			done := make(chan machine.Result, 2)
			for _, how := range []string{"GET 0", "POST 0.02"} {
				go func() {
					done <- shop.Run(context.Background(), "sh", "-c", "exec "+where+"/usr/bin/python3 /opt/apps/clients.py http.client "+how+" "+p.url)
				}()
			}
			shop.Wait("connections", 20*time.Second, func() bool { return shop.established() >= 2 })
			for range 2 {
				generation++
				shop.deploy(append(lines, fmt.Sprintf("GENERATION=g%d", generation))...)
				if record := shop.receipt("current").Rollout; record.Cut > 0 || record.ToldToClose < 2 {
					t.Errorf("generation %d: %s", generation, record.Connections())
				}
			}
			shop.Sh("touch /run/enough")
			for range cap(done) {
				r := <-done
				if seen := asked(t, r); seen.Asked == 0 || len(seen.Failed) > 0 {
					t.Errorf("%d asked, failed: %v", seen.Asked, seen.Failed)
				}
			}
			for _, at := range []string{"", "ip netns exec client "} {
				if bad := shop.Sh(at + "nstat -asz TcpInCsumErrors | awk '/TcpInCsumErrors/ {print $2}'"); strings.TrimSpace(bad) != "0" {
					t.Errorf("%swrong checksums: %s", at, bad)
				}
			}
			shop.Sh("ip netns del client; ip link del bridge0 2>/dev/null || true; nft flush ruleset")
		})
	}
}

// established is how many connections the app has.
func (a *app) established() int {
	a.t.Helper()
	n, err := strconv.Atoi(a.Sh("ss -Htn state established sport = :8080 | wc -l"))
	if err != nil {
		a.t.Fatal(err)
	}
	return n
}

// answers is what one of the clients has seen.
type answers struct {
	Asked       int
	Connections int // that it has made; 0 if it does not know
	Failed      []string
}

func asked(t *testing.T, r machine.Result) (seen answers) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.Out), &seen); err != nil || r.Code != 0 {
		t.Fatalf("status %d, %v:\n%s%s", r.Code, err, r.Out, r.Err)
	}
	return seen
}
