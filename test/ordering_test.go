//go:build story

package test

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestOrdering: no unit of ours is ordered after or before an instance, except the
// port sharing. Otherwise stop and poweroff would hang.
func TestOrdering(t *testing.T) {
	t.Parallel()
	shop := newShop(t)
	shop.write("STOP=graceful")
	one := shop.other(t, "one")
	one.write("SYSTEMD_CLUSTER_MODE=0", "PORT=8081")
	rollOut(shop)
	nothingWaits(shop)

	// Starting or isolating multi-user.target neither deploys what is pending nor stops
	// an app.
	shop.write("GENERATION=pending")
	for _, verb := range []string{"start", "isolate"} {
		state := func() string {
			return shop.Property("app-rollout.service", "InvocationID") + shop.instances() + one.Property("one.service", "MainPID")
		}
		before := state()
		shop.Must("systemctl", verb, "multi-user.target")
		shop.booted()
		if after := state(); after != before {
			t.Errorf("%s multi-user.target: was %s, is %s", verb, before, after)
		}
	}
	// An isolate in the middle of a rollout leaves the new instances alone, though no
	// target wants them yet.
	shop.write("START_DELAY=5s")
	shop.Must("systemctl", "start", "--no-block", shop.service())
	shop.waitFor("shop@4")
	shop.Must("systemctl", "isolate", "multi-user.target")
	if state := shop.Property(shop.service(), "ActiveState"); state != "activating" {
		t.Errorf("the isolate is not in the middle of the rollout, which is %s", state)
	}
	shop.Wait("the rollout", 30*time.Second, func() bool { return shop.Property(shop.service(), "ActiveState") == "inactive" })
	shop.want("shop@3 shop@4")

	// An edit while a run is under way is rolled out too, though systemd merges the
	// second start into the first.
	shop.Must("systemctl", "start", "--no-block", "app-rollout.service")
	shop.waitFor("shop@6")
	shop.write("GENERATION=edited")
	shop.Must("systemctl", "start", "app-rollout.service")
	shop.answersOnly("edited")

	stopsInTheMiddle(shop)
}

// nothingWaits checks that no instance is ordered after or before a service of ours,
// and none of our services after or before each other.
func nothingWaits(shop *app) {
	ordered := func(unit string, bad func(property, other string) bool) {
		for _, property := range []string{"After", "Before"} {
			for _, other := range strings.Fields(shop.Property(unit, property)) {
				if bad(property, other) {
					shop.t.Errorf("%s is ordered %s=%s", unit, property, other)
				}
			}
		}
	}
	for _, unit := range []string{"shop@1.service", "shop@2.service", "one.service"} {
		ordered(unit, func(property, other string) bool {
			return strings.HasPrefix(other, "app-rollout") && !(other == "app-rollout-ports.service" && property == "After")
		})
	}
	ours := strings.Fields(shop.Sh("systemctl list-units --all --plain --no-legend 'app-rollout*' | cut -d' ' -f1"))
	for _, unit := range []string{"app-rollout.service", "app-rollout@shop.service", "app-rollout-rollback@shop.service", "app-rollout-restart@shop.service", "app-rollout-boot.service", "app-rollout-recover.service", "app-rollout-recover@shop.service"} {
		ordered(unit, func(_, other string) bool {
			return strings.HasPrefix(other, "shop") || strings.HasPrefix(other, "one.") || slices.Contains(ours, other)
		})
	}
}

// stopsInTheMiddle stops a run in the middle, by itself and with the machine. That
// takes no longer than to stop the app, or the machine, without a run: a run that
// waited for its drain, its start or a stop would take 30 s longer.
func stopsInTheMiddle(shop *app) {
	const margin = 10 * time.Second
	start := time.Now()
	shop.Must("systemctl", "stop", "shop@*.service")
	stop := time.Since(start)
	shop.rollOut()
	down := shop.Reboot()
	shop.booted()

	before := shop.instances()
	begin := func() {
		shop.Must("systemctl", "start", "--no-block", "app-rollout.service")
		shop.Wait("the new instances", 30*time.Second, func() bool { return strings.Count(shop.instances(), "shop@") == 4 })
	}
	shop.write("START_DELAY=60s")
	begin()
	start = time.Now()
	shop.Must("systemctl", "stop", "app-rollout.service")
	if took := time.Since(start); took > stop+margin {
		shop.t.Errorf("a stop in the middle took %v, one of the app alone %v", took, stop)
	}
	shop.want(before)
	shop.answersOnly("edited")

	begin()
	if took := shop.Reboot(); took > down+margin {
		shop.t.Errorf("a reboot in the middle took %v to go down, else %v", took, down)
	}
	shop.want("shop@1 shop@2")
	shop.answersOnly("edited")
}

// waitFor waits until an instance of the app runs.
func (a *app) waitFor(unit string) {
	a.t.Helper()
	a.Wait(unit, 30*time.Second, func() bool { return slices.Contains(strings.Fields(a.instances()), unit) })
}
