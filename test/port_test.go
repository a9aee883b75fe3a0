//go:build story

package test

import (
	"context"
	"strings"
	"testing"
	"time"

	"app-rollout/test/load"
)

// TestNobodyElseOnThePort: ports are shared, so another app of the same user, or any
// other process of this user, could get a part of the connections. A rollout names
// and refuses it. Another app gets no connection at all.
func TestNobodyElseOnThePort(t *testing.T) {
	t.Parallel()
	shop := newShop(t)
	lines := []string{"SYSTEMD_USER=www-data", "SYSTEMD_CLUSTER_READY_SEC=5"}
	shop.deploy(append(lines, "GENERATION=good")...)
	client := shop.busy()

	other := shop.other(t, "other")
	other.fails("another app", "/etc/app-rollout/other.env: port 8080 belongs to shop; give other another PORT, then: app-rollout run other", append(lines, "GENERATION=other")...)
	other.want("")
	// What it binds beside its PORT is seen when it is bound.
	other.fails("another app, beside its PORT", "but port 8080 belongs to shop; nothing serves; let it listen on another one", "SYSTEMD_USER=www-data", "PORT=8089", "LISTEN=127.0.0.1:PORT,0.0.0.0:8080", "GENERATION=other")
	other.want("")
	other.deploy("PORT=8089", "LISTEN=127.0.0.1:PORT,127.0.0.2:8080", "GENERATION=other")
	report := client.Stop()
	nothingLost(t, report)
	onlyFrom(t, report, "good")
	shop.Sh("rm /etc/app-rollout/other.env; app-rollout run other")

	shop.stranger(append(lines, "GENERATION=next")...)

	// A generation on other addresses is refused. The error has the commands that make
	// the change, and they work.
	for _, c := range []struct{ line, addr string }{
		{"LISTEN=0.0.0.0:PORT", "127.0.0.1:8080"},
		{"PORT=8088", "127.0.0.1:8088"},
	} {
		before := shop.instances()
		shop.fails(c.line, "(systemctl stop 'shop@*.service'), then: app-rollout run shop", append(lines, "GENERATION=moved", c.line)...)
		shop.want(before)
		if says := shop.Must("app-rollout", "status", "shop"); c.line[:4] == "PORT" && !strings.Contains(says, ", PORT; a run refuses it: ") {
			t.Errorf("%s: status says\n%s", c.line, says)
		}
		shop.Sh("systemctl stop 'shop@*.service'; app-rollout run shop")
		probe := shop.Load(load.Options{Addr: c.addr, Workers: 1, Want: "moved"})
		shop.more(probe, 0)
		probe.Stop()
	}
}

// stranger starts a service that is not an app and that shares shop's port. A rollout
// to these lines and a boot name it. Once it is gone the rollout succeeds.
func (a *app) stranger(lines ...string) {
	a.t.Helper()
	a.Write("/etc/systemd/system/stranger.service", "[Service]\nUser=www-data\nEnvironment=PORT=8080 REUSEPORT=1 GENERATION=stranger\nExecStart=/opt/apps/server\n[Install]\nWantedBy=multi-user.target\n", 0o644)
	a.Sh("systemctl daemon-reload; systemctl start stranger.service")
	a.Wait("the stranger", 20*time.Second, func() bool {
		return a.Run(context.Background(), "sh", "-c", "[ $(ss -Hltn sport = :8080 | wc -l) = 3 ]").Code == 0
	})
	const who, remedy = "stranger.service listens on 127.0.0.1:8080 too", "; stop it or give one of them another port"
	a.fails("a stranger", who+"; generation 1 still serves"+remedy, lines...)
	a.want("shop@1 shop@2")
	a.Must("systemctl", "enable", "stranger.service")
	a.Reboot()
	a.Wait("the boot service", 60*time.Second, func() bool {
		state := a.Property("app-rollout-boot.service", "SubState")
		return state == "exited" || state == "failed"
	})
	a.logged(who+remedy, "-u", "app-rollout-boot.service")
	a.Sh("systemctl disable --now stranger.service")
	a.rollOut()
}
