package main

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"time"

	"app-rollout/test/load"
)

// enoughFile ends the clients that run inside.
const enoughFile = "/run/enough"

// network brings the network card up, as qemu's user network has it, and makes a VLAN to a
// client's namespace that loses packets and brings others late, out of order.
const network = `
modprobe -a virtio_net veth 8021q sch_netem
card=$(basename "$(dirname "$(ls -d /sys/class/net/*/device | head -1)")")
ip addr add 10.0.2.15/24 dev "$card"
ip link set "$card" up
ip netns add client
ip link add here type veth peer name there netns client
ip link set here up
tc qdisc add dev here root netem delay 3ms reorder 30% loss 2%
ip link add link here name here.5 type vlan id 5
ip addr add 10.9.5.1/24 dev here.5
ip link set here.5 up
ip netns exec client sh -euc '
	ip link set there up
	ip link add link there name there.5 type vlan id 5
	ip addr add 10.9.5.2/24 dev there.5
	ip link set there.5 up'
`

// paths has two clients keep their connections to the app until the function that it
// returns is called: one on the host, whose packets go by the network card, and one in the
// VLAN. While the app is rolled out they are told to close. They lose no more requests than
// that function is told that connections were closed at rest.
func (g *guest) paths() (end func(untold int)) {
	g.sh(network)
	g.say("ASK")
	reported := make(chan result)
	go func() { reported <- g.try("ip netns exec client /mnt/test/guest ask 10.9.5.1:8080") }()
	// The server listens for IPv6 too, and so has IPv4 addresses as [::ffff:10.0.2.2].
	connected := func() string { return g.try("ss -Htn state established sport = :8080 | tr -d '[]'").out }
	for _, from := range []string{"10.0.2.2", "10.9.5.2"} {
		g.wait("a connection from "+from, time.Minute, func() bool { return strings.Contains(connected(), from+":") })
	}
	return func(untold int) {
		g.write(enoughFile, "")
		g.say("ENOUGH %d", untold)
		r, report := <-reported, new(load.Report)
		if err := json.Unmarshal([]byte(r.out), report); err != nil || r.code != 0 {
			g.must("a client: status %d, %v: %s", r.code, err, r.out)
		}
		g.say("the client in the VLAN: %v", report)
		if report.Lost() > untold || report.Answered() == 0 {
			g.fail("the client in the VLAN: %v: %v", report, report.Failures)
		}
		for _, at := range []string{"", "ip netns exec client "} {
			g.equal(at+"wrong checksums", g.sh(at+"nstat -asz TcpInCsumErrors | awk '/TcpInCsumErrors/ {print $2}'"), "0")
		}
		g.equal("what others have attached", g.sh("tc qdisc show dev here | cut -d' ' -f2 | xargs"), "netem")
		g.wait("the host's client to go", time.Minute, func() bool { return !strings.Contains(connected(), "10.0.2.2:") })
		g.sh("ip netns del client")
	}
}

// askOn is a client that keeps its connection, until the file enoughFile appears. It
// prints what it saw.
func askOn(addr string) error {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		for {
			if _, err := os.Stat(enoughFile); err == nil {
				cancel()
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	report := load.Run(ctx, load.Options{Addr: addr, Workers: 1, Keep: true, Pause: 80 * time.Millisecond, Timeout: 30 * time.Second}, nil)
	return json.NewEncoder(os.Stdout).Encode(report)
}
