//go:build story

package test

import (
	"context"
	"regexp"
	"strings"
	"testing"

	"app-rollout/test/machine"
)

// What systemd itself says of the unit files that we ship, and of those that
// the generator makes.
func TestShippedUnits(t *testing.T) {
	rollouts := []string{"app-rollout.service", "app-rollout@shop.service", "app-rollout-rollback@shop.service", "app-rollout-boot.service"}
	for _, release := range []string{"bookworm", "trixie"} {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			m := machine.Boot(t, machine.Options{Release: release, Install: true, Layers: []string{machine.Apps(t)}})
			m.Write("/etc/app-rollout/shop.env", packageEnv, 0o644)
			m.Must("systemctl", "daemon-reload")

			// verify's exit status is 0 even for unknown keys: it has to be silent.
			all := append([]string{"app-rollout-ports.service", `run-app\x2drollout\x2dbpf.mount`, "shop@1.service"}, rollouts...)
			r := m.Run(context.Background(), "systemd-analyze", append([]string{"verify", "--man=no", "--generators=yes"}, all...)...)
			if r.Code != 0 || r.Out+r.Err != "" {
				t.Errorf("systemd-analyze verify: status %d\n%s%s", r.Code, r.Out, r.Err)
			}
			for _, unit := range []string{"app-rollout.service", "app-rollout-boot.service", "app-rollout-ports.service", "app-rollout@.service", "app-rollout-rollback@.service"} {
				path := m.Sh("ls /usr/lib/systemd/system/" + unit)
				exposure := m.Sh("systemd-analyze security --offline=yes --no-pager --threshold=30 " + path + " | tail -1")
				if !regexp.MustCompile(`: ([012]\.\d|3\.0) `).MatchString(exposure) {
					t.Errorf("more than 3.0: %s", exposure)
				}
			}

			m.Must("systemctl", "start", "app-rollout.service")
			// An instance that is ordered before or after a service that waits
			// for it, or is stopped with it, is a deadlock at stop and poweroff.
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
					"StartLimitIntervalUSec": "0", "IgnoreOnIsolate": "yes",
				} {
					if got := m.Property(unit, property); got != want {
						t.Errorf("%s: %s=%s, want %s", unit, property, got, want)
					}
				}
			}
			if got := m.Sh("cat /proc/sys/net/ipv4/tcp_migrate_req"); got != "1" {
				t.Errorf("net.ipv4.tcp_migrate_req = %s", got)
			}
		})
	}
}
