//go:build story

package test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"app-rollout/test/machine"
)

// left are the conversations of test/apps/exact that cannot be told to close.
var left = []string{
	"304", "duplex", "events", "WebSocket", "WebSocket in the drain", "tunnel", "tunnel in the drain", "closes by itself",
	"TLS", "HTTP/2 with TLS", "HTTP/2 in the clear", "gRPC's way with TLS", "gRPC's way in the clear",
}

// once are those that are had in the first drain only.
var once = []string{"closes by itself", "WebSocket in the drain", "tunnel in the drain"}

// exactApps are the apps that hold these conversations, by the command of each.
var exactApps = map[string]string{
	"shop":  "/opt/exact/exact serve",
	"web":   "/usr/sbin/nginx -c /opt/exact/nginx.conf",
	"proxy": "/usr/sbin/haproxy -Ws -f /opt/exact/haproxy.cfg",
	"edge":  "/usr/bin/python3 /opt/apps/edge.py",
	"nio":   "/usr/bin/java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC /opt/apps/Nio.java",
}

// nginx is asked for a file, and sends uploads on; HAProxy is before another server.
const (
	exactNginx = `daemon off;
pid /tmp/nginx.pid;
error_log stderr;
events {}
http {
	access_log off;
	client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/fastcgi;
	uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
	sendfile on; keepalive_requests 1000000; client_max_body_size 10m;
	server {
		listen 127.0.0.1:8090;
		root /opt/exact;
		location /upload { proxy_pass http://127.0.0.1:8099; }
	}
}
`
	exactHAProxy = `global
	maxconn 200
defaults
	mode http
	option splice-response
	timeout client 60s
	timeout connect 10s
	timeout server 60s
frontend app
	bind 127.0.0.1:8091
	default_backend behind
backend behind
	server other 127.0.0.1:8099
`
)

// TestExact: what clients and apps say to each other arrives byte for byte while the
// apps are rolled out, but for the one line that tells a client to close. Each client
// keeps its connection, knows what must come, and checks it.
func TestExact(t *testing.T) {
	t.Parallel()
	shop := exactMachine(t)
	roll := func(generation string) {
		var services []string
		for name, command := range exactApps {
			a := shop.other(t, name)
			a.Write(a.path(), "SYSTEMD_CLUSTER_MODE=1\nSYSTEMD_CLUSTER_WATCH_SEC=1\nSYSTEMD_CLUSTER_DRAIN_SEC=8\nPORT="+exactPorts[name]+
				"\nGENERATION="+generation+"\nSYSTEMD_EXEC_START="+command+"\n", 0o644)
			services = append(services, a.service())
		}
		shop.Must("systemctl", append([]string{"start", "--no-block"}, services...)...)
		if generation == "g2" {
			shop.until("waiting for")
			shop.Sh("touch /run/draining")
		}
		shop.Wait("the rollouts", 2*time.Minute, func() bool {
			return !strings.Contains(shop.Run(context.Background(), "systemctl", append([]string{"is-active"}, services...)...).Out, "activating")
		})
		for name := range exactApps {
			record := shop.other(t, name).receipt("current").Rollout
			t.Logf("%s, %s: %s %s", generation, name, record.Result, record.Connections())
			if record.Traffic != "steered" || record.Result != "ready" {
				t.Errorf("%s, %s: %s, %s: %s", generation, name, record.Result, record.Traffic, record.TrafficReason)
			}
			if generation != "g1" && record.ToldToClose == 0 {
				t.Errorf("%s, %s: the receipt counts none that was told to close", generation, name)
			}
		}
	}
	roll("g1")
	done := make(chan machine.Result)
	go func() { done <- shop.Run(context.Background(), "/opt/exact/exact", "ask") }()
	shop.Wait("all conversations", 60*time.Second, func() bool { return shop.Exists("/run/going") })
	roll("g2")
	roll("g3")
	shop.Sh("touch /run/enough")
	exactly(t, <-done)
	if bad := shop.Sh("nstat -asz TcpInCsumErrors | awk '/TcpInCsumErrors/ {print $2}'"); strings.TrimSpace(bad) != "0" {
		t.Errorf("wrong checksums: %s", bad)
	}
}

var exactPorts = map[string]string{"shop": "8080", "web": "8090", "proxy": "8091", "edge": "8092", "nio": "8093"}

// exactMachine is a machine with what the apps need.
func exactMachine(t *testing.T) *app {
	t.Helper()
	shop := serversMachine(t)
	program := filepath.Join(t.TempDir(), "exact")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", program, "./test/apps/exact")
	build.Dir = machine.Root()
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	shop.Copy(program, "/opt/exact/exact", 0o755)
	shop.Write("/opt/exact/nginx.conf", exactNginx, 0o644)
	shop.Write("/opt/exact/haproxy.cfg", exactHAProxy, 0o644)
	shop.Sh("/opt/exact/exact large > /opt/exact/large; systemd-run --quiet --unit=behind --setenv=PORT=8099 /opt/exact/exact serve")
	return shop
}

// exactly checks what became of the conversations.
func exactly(t *testing.T, r machine.Result) {
	t.Helper()
	var all []struct {
		Name                                string
		Connections, Exchanges, Told, Ended int
		Wrong                               []string
	}
	if err := json.Unmarshal([]byte(r.Out), &all); err != nil || r.Code != 0 || len(all) == 0 {
		t.Fatalf("status %d, %v:\n%s%s", r.Code, err, r.Out, r.Err)
	}
	for _, c := range all {
		is := fmt.Sprintf("%s: %d exchanges on %d connections, %d told, %d ended", c.Name, c.Exchanges, c.Connections, c.Told, c.Ended)
		t.Log(is)
		if len(c.Wrong) > 0 {
			t.Errorf("%s: %s", is, strings.Join(c.Wrong, "\n"))
		}
		stays, connections := slices.Contains(left, c.Name), 3
		if slices.Contains(once, c.Name) {
			connections = 1
		}
		if c.Exchanges == 0 || c.Connections < connections {
			t.Errorf("%s: fewer than %d connections", is, connections)
		}
		if stays && c.Told > 0 {
			t.Errorf("%s: it must not be told", is)
		}
		if !stays && (c.Told < 2 || c.Ended > 0) {
			t.Errorf("%s: each connection must be told", is)
		}
	}
}
