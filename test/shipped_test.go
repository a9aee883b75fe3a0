//go:build story

package test

import (
	"context"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"app-rollout/test/machine"
)

// TestShippedUnits: systemd finds nothing wrong with the unit files that we ship and
// those that the generator makes.
func TestShippedUnits(t *testing.T) {
	// The services that run the helper, and the recovery of each.
	recovery := map[string]string{
		"app-rollout.service": "app-rollout-recover.service", "app-rollout-boot.service": "app-rollout-recover.service",
		"app-rollout@shop.service": "app-rollout-recover@shop.service", "app-rollout-rollback@shop.service": "app-rollout-recover@shop.service",
		"app-rollout-restart@shop.service": "app-rollout-recover@shop.service",
		"app-rollout-recover.service":      "", "app-rollout-recover@shop.service": "",
	}
	rollouts := slices.Sorted(maps.Keys(recovery))
	onEachRelease(t, func(t *testing.T, on machine.Options) {
		m := newShop(t, on)
		m.Write("/etc/app-rollout/shop.env", packageEnv, 0o644)
		m.Must("systemctl", "daemon-reload")

		// verify exits with status 0 even for unknown keys, so it must print nothing.
		all := append([]string{"app-rollout-ports.service", `run-app\x2drollout\x2dbpf.mount`, "shop@1.service"}, rollouts...)
		r := m.Run(context.Background(), "systemd-analyze", append([]string{"verify", "--man=no", "--generators=yes"}, all...)...)
		if r.Code != 0 || r.Out+r.Err != "" {
			t.Errorf("systemd-analyze verify: status %d\n%s%s", r.Code, r.Out, r.Err)
		}
		for _, unit := range append([]string{"app-rollout-ports.service"}, rollouts...) {
			unit = strings.ReplaceAll(unit, "@shop", "@")
			path := m.Sh("ls /usr/lib/systemd/system/" + unit)
			exposure := m.Sh("systemd-analyze security --offline=yes --no-pager --threshold=30 " + path + " | tail -1")
			if !regexp.MustCompile(`: ([012]\.\d|3\.0) `).MatchString(exposure) {
				t.Errorf("more than 3.0: %s", exposure)
			}
		}

		m.Must("systemctl", "start", "app-rollout.service")
		// If an instance were ordered before or after a service that waits for it, or is
		// stopped with it, stop and poweroff would be a deadlock.
		for _, unit := range append([]string{"shop@1.service", "shop@2.service"}, rollouts...) {
			ordered := " " + m.Sh("systemctl show --value --property=Before --property=After "+unit) + " "
			for _, other := range append([]string{"shop@1.service", "shop@2.service"}, rollouts...) {
				if strings.Contains(strings.ReplaceAll(ordered, "\n", " "), " "+other+" ") {
					t.Errorf("%s is ordered before or after %s", unit, other)
				}
			}
		}
		for _, unit := range rollouts {
			for property, want := range map[string]string{
				"NotifyAccess": "main", "Type": "oneshot", "TimeoutStopUSec": "infinity",
				"StartLimitIntervalUSec": "0", "IgnoreOnIsolate": "yes", "OnFailure": recovery[unit],
			} {
				if got := m.Property(unit, property); got != want {
					t.Errorf("%s: %s=%s, want %s", unit, property, got, want)
				}
			}
		}
		// A run that was refused leaves nothing.
		if r := m.Run(context.Background(), "systemctl", "start", "app-rollout@no-such.service", "app-rollout@Shop.service"); r.Code == 0 {
			t.Error("apps that there are not: status 0")
		}
		m.Wait("its recovery", 20*time.Second, func() bool {
			return m.Property("app-rollout-recover@no-such.service", "ExecMainExitTimestampMonotonic") != "0" &&
				m.Property("app-rollout-recover@Shop.service", "ExecMainExitTimestampMonotonic") != "0"
		})
		if got := m.Sh("systemctl list-units --plain --no-legend --failed; ls /run/app-rollout"); !strings.Contains(got, "app-rollout@no-such.service ") || strings.Contains(got, "recover") || strings.HasSuffix(got, "no-such") {
			t.Errorf("after a run of an app that there is not: %s", got)
		}
		if got := m.Sh("cat /proc/sys/net/ipv4/tcp_migrate_req"); got != "1" {
			t.Errorf("net.ipv4.tcp_migrate_req = %s", got)
		}
	})
}
