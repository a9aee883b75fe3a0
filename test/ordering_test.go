//go:build story

package test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"app-rollout/test/machine"
)

// TestOrdering: nothing of ours waits for an instance, and no instance for
// anything of ours but the port sharing: else stop and poweroff would hang.
func TestOrdering(t *testing.T) {
	t.Parallel()
	m := machine.Boot(t, machine.Options{Install: true, Layers: []string{machine.Apps(t)}})
	m.Write("/etc/app-rollout/shop.env", shop("STOP=graceful"), 0o644)
	m.Write("/etc/app-rollout/one.env", shop("SYSTEMD_CLUSTER_MODE=0", "PORT=8081"), 0o644)
	deploys(t, m)

	ours := strings.Fields(m.Sh("systemctl list-units --all --plain --no-legend 'app-rollout*' | cut -d' ' -f1"))
	for _, unit := range []string{"shop@1.service", "shop@2.service", "one.service"} {
		for _, property := range []string{"After", "Before"} {
			for _, other := range strings.Fields(m.Property(unit, property)) {
				if strings.HasPrefix(other, "app-rollout") && !(other == "app-rollout-ports.service" && property == "After") {
					t.Errorf("%s is ordered %s=%s", unit, property, other)
				}
			}
		}
	}
	for _, unit := range []string{"app-rollout.service", "app-rollout@shop.service", "app-rollout-rollback@shop.service", "app-rollout-boot.service", "app-rollout-recover.service", "app-rollout-recover@shop.service"} {
		for _, property := range []string{"After", "Before"} {
			for _, other := range strings.Fields(m.Property(unit, property)) {
				if strings.HasPrefix(other, "shop") || strings.HasPrefix(other, "one.") || slices.Contains(ours, other) {
					t.Errorf("%s is ordered %s=%s", unit, property, other)
				}
			}
		}
	}

	// Neither deploys what is pending, nor stops anything of ours.
	m.Write("/etc/app-rollout/shop.env", shop("GENERATION=pending"), 0o644)
	for _, verb := range []string{"start", "isolate"} {
		before := m.Property("app-rollout.service", "InvocationID") + instances(m, "shop") + m.Property("one.service", "MainPID")
		m.Must("systemctl", verb, "multi-user.target")
		m.Wait("the service of the boot", 30*time.Second, func() bool { return m.Property("app-rollout-boot.service", "SubState") == "exited" })
		if after := m.Property("app-rollout.service", "InvocationID") + instances(m, "shop") + m.Property("one.service", "MainPID"); after != before {
			t.Errorf("%s multi-user.target: was %s, is %s", verb, before, after)
		}
	}
	// Isolate in the middle of a rollout: the candidates are wanted by nothing yet.
	m.Write("/etc/app-rollout/shop.env", shop("START_DELAY=2s"), 0o644)
	m.Must("systemctl", "start", "--no-block", "app-rollout@shop.service")
	m.Wait("the new instances", 10*time.Second, func() bool { return strings.Contains(instances(m, "shop"), "shop@4") })
	m.Must("systemctl", "isolate", "multi-user.target")
	m.Wait("the rollout", 20*time.Second, func() bool { return m.Property("app-rollout@shop.service", "ActiveState") == "inactive" })
	want(t, m, "shop", "shop@3 shop@4")

	// An edit while a run is under way is rolled out too, though systemd merges
	// the second start into the first.
	m.Must("systemctl", "start", "--no-block", "app-rollout.service")
	m.Wait("the new instances", 10*time.Second, func() bool { return strings.Contains(instances(m, "shop"), "shop@6") })
	m.Write("/etc/app-rollout/shop.env", shop("GENERATION=edited"), 0o644)
	m.Must("systemctl", "start", "app-rollout.service")
	answersOnly(t, m, "edited")

	// How long the app takes to stop, and the machine to go down, by themselves.
	// A wait that should not be is one of 30 s at least: for the drain, the start
	// or a stop.
	const margin = 10 * time.Second
	start := time.Now()
	m.Must("systemctl", "stop", "shop@*.service")
	stop := time.Since(start)
	deploys(t, m, "shop")
	down := m.Reboot()
	m.Wait("the service of the boot", 30*time.Second, func() bool { return m.Property("app-rollout-boot.service", "SubState") == "exited" })

	// Stopped in the middle: back on the old one, in no more time than the app
	// takes to stop.
	before := instances(m, "shop")
	m.Write("/etc/app-rollout/shop.env", shop("START_DELAY=60s"), 0o644)
	m.Must("systemctl", "start", "--no-block", "app-rollout.service")
	m.Wait("the new instances", 10*time.Second, func() bool {
		return instances(m, "shop") != before && strings.Count(instances(m, "shop"), "shop@") == 4
	})
	start = time.Now()
	m.Must("systemctl", "stop", "app-rollout.service")
	if took := time.Since(start); took > stop+margin {
		t.Errorf("a stop in the middle took %v, one of the app alone %v", took, stop)
	}
	want(t, m, "shop", before)
	answersOnly(t, m, "edited")

	// And a power-off in the middle.
	m.Must("systemctl", "start", "--no-block", "app-rollout.service")
	m.Wait("the new instances", 10*time.Second, func() bool { return strings.Count(instances(m, "shop"), "shop@") == 4 })
	if took := m.Reboot(); took > down+margin {
		t.Errorf("a reboot in the middle took %v to go down, else %v", took, down)
	}
	want(t, m, "shop", "shop@1 shop@2")
	answersOnly(t, m, "edited")
}
