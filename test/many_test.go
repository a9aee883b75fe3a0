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
// do not listen before all others are ready. Each becomes ready in its own time, with one
// daemon-reload for all.
func TestManyApps(t *testing.T) {
	const apps = 40
	shop := newShop(t, machine.Options{Release: "trixie"})
	special := map[int][]string{
		0:  {"SYSTEMD_CLUSTER_READY_SEC=600", slow},
		1:  {"SYSTEMD_CLUSTER_READY_SEC=600", slow},
		13: {"EXIT_AT_START=3"},
		27: {"EXIT_AT_START=4"},
	}
	var all []string
	for i := range apps {
		name := fmt.Sprintf("app%02d", i)
		shop.other(t, name).write(append([]string{fmt.Sprintf("PORT=%d", 9000+i)}, special[i]...)...)
		if _, odd := special[i]; !odd {
			all = append(all, name)
		}
	}
	before := strings.Count(shop.journal("_PID=1"), "Reloading...\n")
	began := time.Now()
	ended := make(chan int, 1)
	go func() { ended <- shop.Run(context.Background(), "systemctl", "start", "app-rollout.service").Code }()
	shop.Wait("all but the slow apps to be ready", 5*time.Minute, func() bool { return slices.Equal(shop.readyApps(), all) })
	t.Logf("all but the slow apps took %v", time.Since(began))
	shop.Must("touch", "/srv/go")
	all = append([]string{"app00", "app01"}, all...)
	shop.Wait("the slow apps to be ready", time.Minute, func() bool { return slices.Equal(shop.readyApps(), all) })
	if <-ended == 0 {
		t.Error("no app has failed")
	}
	log := shop.journal("_PID=1")
	// A disk that stalls for seconds may make it one more: TestOneReload has it exactly.
	if got := strings.Count(log, "Reloading...\n") - before; got < 1 || got > 2 {
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
	for _, a := range report.Apps {
		if a.State == "up" && len(a.Instances) == 2 {
			all = slices.DeleteFunc(all, func(name string) bool { return name == a.Name })
		} else if a.Name != "app13" && a.Name != "app27" {
			t.Errorf("%s is %s", a.Name, a.State)
		}
	}
	if len(all) > 0 {
		t.Errorf("%v are not up", all)
	}
}

// slow has an app wait for a file before it listens.
const slow = `SYSTEMD_EXEC_START='/bin/sh -c "until [ -e /srv/go ]; do sleep 1; done; exec /opt/apps/server"'`

// readyApps are the apps of which a generation has become ready, in order.
func (a *app) readyApps() []string {
	a.t.Helper()
	return strings.Fields(a.Sh("cd /var/lib/app-rollout; for app in *; do [ ! -e $app/current ] || echo $app; done"))
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
	// A disk that stalls for seconds may make it one more. Each for itself, it would be five.
	if got := reloads() - before; got < 1 || got > 2 {
		t.Errorf("the first run has reloaded systemd %d times", got)
	}
	shop.Reboot()
	shop.booted()
	before = reloads()
	rollOut(shop)
	if got := reloads() - before; got < 2 || got > 3 {
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
