//go:build story

package test

import (
	"strings"
	"testing"

	"app-rollout/test/machine"
)

// TestBoot: the boot starts what last worked, and rolls out what is asked for after
// that.
func TestBoot(t *testing.T) {
	onEachRelease(t, func(t *testing.T, on machine.Options) {
		shop := newShop(t, on)

		// Nothing is recorded: the boot starts 1 to N from the .env and records them.
		shop.write("GENERATION=g1", "SYSTEMD_CLUSTER_NODES=3")
		shop.Reboot()
		shop.want("shop@1 shop@2 shop@3")
		shop.booted()
		shop.want("shop@1 shop@2 shop@3")
		if !shop.Exists("/var/lib/app-rollout/shop/current/generation.json") {
			t.Fatal("the booted generation is not recorded")
		}
		if shop.Exists("/run/systemd/generator/shop.generation") {
			t.Error("the generator still emits what is not recorded")
		}
		shop.answersOnly("g1")

		// A daemon-reload afterwards changes nothing.
		shop.Must("systemctl", "daemon-reload")
		if got := shop.Property("shop@1.service", "NeedDaemonReload"); got != "no" {
			t.Errorf("NeedDaemonReload=%s", got)
		}

		// An edit is pending: the old generation is up at once, the new one a little
		// later.
		shop.write("GENERATION=g2", "SYSTEMD_CLUSTER_NODES=2")
		shop.Reboot()
		shop.booted()
		log := shop.journal()
		first, then := strings.Index(log, "Started shop@2.service"), strings.Index(log, "Starting app-rollout-boot.service")
		if first < 0 || then < first {
			t.Errorf("the old generation was not started before the boot service:\n%s", log)
		}
		shop.want("shop@4 shop@5")
		shop.answersOnly("g2")

		// After a power cut with nothing pending the same generation is up, as 1 and 2.
		shop.Kill()
		shop.PowerOn()
		shop.booted()
		shop.want("shop@1 shop@2")
		shop.answersOnly("g2")

		// An .env that cannot be read stops nothing.
		shop.Sh("rm /etc/app-rollout/shop.env; ln -s /srv/gone/.env /etc/app-rollout/shop.env")
		shop.Reboot()
		shop.boot("failed")
		shop.want("shop@1 shop@2")
		shop.answersOnly("g2")

		// Without an .env the boot starts nothing.
		shop.Sh("rm /etc/app-rollout/shop.env")
		shop.Reboot()
		shop.booted()
		shop.want("")
	})
}
