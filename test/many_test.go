//go:build story

package test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"app-rollout/rollout-helper/status"
	"app-rollout/test/machine"
)

// TestManyApps: one run starts forty new apps of two instances. Two of them fail, and two
// need long until they listen. All others become ready, each in its own time and before
// the slow ones, with one daemon-reload for all.
func TestManyApps(t *testing.T) {
	const apps, readySec = 40, 30
	shop := newShop(t, machine.Options{Release: "trixie"})
	special := map[int][]string{
		0:  {"START_DELAY=20s"},
		1:  {"START_DELAY=20s"},
		13: {"EXIT_AT_START=3"},
		27: {"EXIT_AT_START=4"},
	}
	name := func(i int) string { return fmt.Sprintf("app%02d", i) }
	for i := range apps {
		lines := slices.Concat([]string{fmt.Sprintf("PORT=%d", 9000+i), fmt.Sprintf("SYSTEMD_CLUSTER_READY_SEC=%d", readySec)}, special[i])
		shop.other(t, name(i)).write(lines...)
	}
	before := strings.Count(shop.journal("_PID=1"), "Reloading...\n")
	began := time.Now()
	if r := shop.Run(context.Background(), "systemctl", "start", "app-rollout.service"); r.Code == 0 {
		t.Error("no app has failed")
	}
	t.Logf("the run took %v", time.Since(began))
	log := shop.journal("_PID=1")
	if got := strings.Count(log, "Reloading...\n") - before; got != 1 {
		t.Errorf("systemd was reloaded %d times", got)
	}
	if strings.Contains(log, "app-rollout-generator") {
		t.Error("the generator has failed")
	}
	shop.logged("2 of 40 apps failed (app13, app27)", "-u", "app-rollout.service")

	var report status.Report
	if err := json.Unmarshal([]byte(shop.Must("app-rollout", "status", "--json")), &report); err != nil {
		t.Fatal(err)
	}
	ready := map[string]time.Time{}
	for _, a := range report.Apps {
		if a.State != "up" || len(a.Instances) != 2 {
			continue
		}
		ready[a.Name] = a.Generation.Ready
	}
	for i := range apps {
		at, up := ready[name(i)]
		switch i {
		case 0, 1:
		case 13, 27:
			if up {
				t.Errorf("%s is up", name(i))
			}
			continue
		default:
			if up && (at.After(ready[name(0)]) || at.After(ready[name(1)])) {
				t.Errorf("%s was ready after a slow one", name(i))
			}
		}
		if !up {
			t.Errorf("%s is not up", name(i))
		}
	}
}

// TestSharedReloads: a run for apps of both modes that the boot has started reloads
// systemd twice: before the services of mode 0 are restarted, and at the end, when the
// instances are gone that the boot's target wanted.
func TestSharedReloads(t *testing.T) {
	t.Parallel()
	shop := newShop(t, machine.Options{Release: "trixie"})
	names := []string{"blog", "docs", "one", "two", "wiki"}
	for i, name := range names {
		shop.other(t, name).write(fmt.Sprintf("PORT=%d", 9000+i), fmt.Sprintf("SYSTEMD_CLUSTER_MODE=%d", i%2))
	}
	reloads := func() int { return strings.Count(shop.journal("_PID=1"), "Reloading...\n") }
	before := reloads()
	rollOut(shop)
	if got := reloads() - before; got != 1 {
		t.Errorf("the first run has reloaded systemd %d times", got)
	}
	shop.Reboot()
	shop.booted()
	before = reloads()
	rollOut(shop)
	if got := reloads() - before; got != 2 {
		t.Errorf("the second run has reloaded systemd %d times", got)
	}
	for i, name := range names {
		a := shop.other(t, name)
		want := name
		if i%2 == 1 {
			want = name + "@3 " + name + "@4"
		}
		a.want(want)
		a.nothingLeft(name)
	}
}
