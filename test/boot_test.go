//go:build story

package test

import (
	"strings"
	"testing"
	"time"

	"app-rollout/test/machine"
)

func booted(m *machine.Machine) {
	m.Wait("the boot service", 60*time.Second, func() bool { return m.Property("app-rollout-boot.service", "SubState") == "exited" })
}

// TestBoot: what last worked is up at once, and what is asked for comes after
// it.
func TestBoot(t *testing.T) {
	for _, release := range []string{"bookworm", "trixie"} {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			m := machine.Boot(t, machine.Options{Release: release, Install: true, Layers: []string{machine.Apps(t)}})

			// Nothing recorded: 1..N from the .env, then recorded.
			m.Write("/etc/app-rollout/shop.env", shop("GENERATION=g1", "SYSTEMD_CLUSTER_NODES=3"), 0o644)
			m.Reboot()
			want(t, m, "shop", "shop@1 shop@2 shop@3")
			booted(m)
			want(t, m, "shop", "shop@1 shop@2 shop@3")
			if !m.Exists("/var/lib/app-rollout/shop/current/generation.json") {
				t.Fatal("the booted generation is not recorded")
			}
			if m.Exists("/run/systemd/generator/shop.generation") {
				t.Error("the generator still emits what is not recorded")
			}
			answersOnly(t, m, "g1")

			// A daemon-reload after it changes nothing.
			m.Must("systemctl", "daemon-reload")
			if got := m.Property("shop@1.service", "NeedDaemonReload"); got != "no" {
				t.Errorf("NeedDaemonReload=%s", got)
			}

			// An edit is pending: up on the old one at once, a little later on the new.
			m.Write("/etc/app-rollout/shop.env", shop("GENERATION=g2", "SYSTEMD_CLUSTER_NODES=2"), 0o644)
			m.Reboot()
			booted(m)
			log := m.Sh("journalctl -b -o cat")
			first, then := strings.Index(log, "Started shop@2.service"), strings.Index(log, "Starting app-rollout-boot.service")
			if first < 0 || then < first {
				t.Errorf("the old generation was not started before the boot service:\n%s", log)
			}
			want(t, m, "shop", "shop@4 shop@5")
			answersOnly(t, m, "g2")

			// A power cut, and nothing pending: the same again, as 1 and 2.
			m.Kill()
			m.PowerOn()
			booted(m)
			want(t, m, "shop", "shop@1 shop@2")
			answersOnly(t, m, "g2")

			// A broken .env, and even none that can be read, stop nothing.
			m.Sh("rm /etc/app-rollout/shop.env; ln -s /srv/gone/.env /etc/app-rollout/shop.env")
			m.Reboot()
			m.Wait("the boot service", 60*time.Second, func() bool {
				return m.Property("app-rollout-boot.service", "ActiveState") == "failed"
			})
			want(t, m, "shop", "shop@1 shop@2")
			answersOnly(t, m, "g2")

			// Without an .env the boot brings nothing up.
			m.Sh("rm /etc/app-rollout/shop.env")
			m.Reboot()
			booted(m)
			want(t, m, "shop", "")
		})
	}
}
