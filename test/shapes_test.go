//go:build story

package test

import (
	"testing"
	"time"

	"app-rollout/test/load"
	"app-rollout/test/machine"
)

// A shape is what an app listens on.
type shape struct {
	app   string
	env   []string
	addrs []string // where clients ask
}

// TestShapes: whatever an app listens on, and however many instances it has, nothing is
// lost and no generation answers out of its turn.
func TestShapes(t *testing.T) {
	t.Parallel()
	shop := newShop(t)
	together(shop,
		shape{"ipv4", []string{"PORT=8101"}, []string{"127.0.0.1:8101"}},
		shape{"ipv6", []string{"PORT=8102", "LISTEN=[::1]:PORT"}, []string{"[::1]:8102"}},
		shape{"dual-stack", []string{"PORT=8103", "LISTEN=:PORT"}, []string{"127.0.0.1:8103", "[::1]:8103"}},
		shape{"listeners", []string{"PORT=8104", "LISTEN=127.0.0.1:PORT,[::1]:PORT", "STOP=die"}, []string{"127.0.0.1:8104", "[::1]:8104"}},
		shape{"ports", []string{"PORT=8105", "LISTEN=127.0.0.1:PORT,127.0.0.1:9090,[::1]:9091,127.0.0.1:0"}, []string{"127.0.0.1:8105", "127.0.0.1:9090", "[::1]:9091"}},
		shape{"single", []string{"PORT=8106", "SYSTEMD_CLUSTER_NODES=1", "LISTEN=127.0.0.1:PORT,127.0.0.1:0"}, []string{"127.0.0.1:8106"}},
		shape{"single-dies", []string{"PORT=8107", "SYSTEMD_CLUSTER_NODES=1", "STOP=die", "LISTEN=:PORT"}, []string{"127.0.0.1:8107", "[::1]:8107"}},
	)
	together(shop, shape{"many", []string{"SYSTEMD_CLUSTER_NODES=32", "STOP=die"}, []string{port, port, port, port}})
}

// together rolls out apps of these shapes at once, under load.
func together(shop *app, shapes ...shape) {
	var names []string
	for _, s := range shapes {
		names = append(names, s.app)
	}
	deploy := func(generation string) {
		for _, s := range shapes {
			shop.other(shop.t, s.app).write(append(s.env, "GENERATION="+generation, "SYSTEMD_CLUSTER_HEALTH_PATH=/")...)
		}
		rollOut(shop, names...)
	}
	deploy("g1")
	clients := make([][]*machine.Load, len(shapes))
	for i, s := range shapes {
		for _, addr := range s.addrs {
			clients[i] = append(clients[i], shop.Load(load.Options{Addr: addr, Workers: 1, Pause: 10 * time.Millisecond, Timeline: true}))
		}
	}
	deploy("g2")
	for i, s := range shapes {
		app := shop.other(shop.t, s.app)
		for j, client := range clients[i] {
			app.more(client, 20)
			report := client.Stop()
			app.t.Logf("%s on %s", s.app, s.addrs[j])
			nothingLost(app.t, report)
			app.inOrder(report.Answers)
		}
		if record := app.receipt("current").Rollout; record.Traffic != "steered" {
			app.t.Errorf("%s: traffic was %s: %s", s.app, record.Traffic, record.TrafficReason)
		}
		app.discard()
	}
}
