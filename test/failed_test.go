//go:build story

package test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"app-rollout/test/machine"
)

// badGenerations are new generations of shop that fail before they get connections,
// and what the error says about each.
var badGenerations = []struct {
	name string
	env  []string
	why  string
}{
	{"exits", []string{"EXIT_AT_START=3"}, "exited with status 3"},
	{"never listens", []string{"NO_LISTEN=1"}, "does not listen on 127.0.0.1:8080"},
	{"listens elsewhere", []string{"LISTEN=127.0.0.1:9090"}, "does not listen on 127.0.0.1:8080 as the running instances do but on 127.0.0.1:9090"},
	{"listens beside", []string{"LISTEN=0.0.0.0:8080"}, "listens on [::]:8080, but the running generation on 127.0.0.1:8080"},
	{"misses READY=1", []string{"SYSTEMD_TYPE=notify"}, "was still starting after 5 s"},
	{"answers 500", []string{"SYSTEMD_CLUSTER_HEALTH_PATH=/health", "HEALTH=500"}, "answers GET /health with status 500"},
	{"hangs", []string{"SYSTEMD_CLUSTER_HEALTH_PATH=/", "HANG=1"}, "does not answer GET /"},
}

// TestFailedRolloutChangesNothing: whatever is wrong with a new generation, the old
// one stays the same: its processes, and its settings after a crash, after a
// daemon-reload and after a reboot. The clients notice nothing.
func TestFailedRolloutChangesNothing(t *testing.T) {
	onEachRelease(t, func(t *testing.T, on machine.Options) {
		shop := newShop(t, on)
		shop.deploy("GENERATION=good")
		shop.want("shop@1 shop@2")
		before := shop.pids("1", "2")
		same := func(after string) {
			t.Helper()
			shop.want("shop@1 shop@2")
			if now := shop.pids("1", "2"); now != before {
				t.Fatalf("%s: the old instances were %s and are %s", after, before, now)
			}
			shop.nothingLeft(after)
		}

		client := shop.clients(4, 5*time.Millisecond)
		for _, c := range badGenerations {
			shop.failsInOneLine(c.name, c.why, append(c.env, "GENERATION=bad", "SYSTEMD_CLUSTER_READY_SEC=5")...)
			same(c.name)
		}
		nothingLost(t, client.Stop())

		// A generation that dies loses the requests that it has in hand, and no others.
		const workers = 4
		client = shop.clients(workers, 5*time.Millisecond)
		shop.write("EXIT_LATER=2s", "SYSTEMD_CLUSTER_WATCH_SEC=30", "GENERATION=bad")
		why := regexp.MustCompile(`shop@\d+\.service exited with status 1 while it was watched`)
		if r := shop.run(); r.Code != 1 || !why.MatchString(r.Err) {
			t.Errorf("dies while watched: status %d: %s%s", r.Code, r.Out, r.Err)
		}
		same("dies while watched")
		if report := client.Stop(); report.Lost() > workers {
			t.Errorf("%d lost with %d clients: %v", report.Lost(), workers, report.Failures)
		}

		// An old instance comes back as what it was after a crash, with and without a
		// daemon-reload before it.
		shop.crash("shop@1.service")
		shop.answersOnly("good")
		shop.Must("systemctl", "daemon-reload")
		shop.crash("shop@1.service")
		shop.answersOnly("good")

		// So does all of the old generation after a reboot, which does not try the
		// rejected one again.
		shop.Reboot()
		shop.booted()
		shop.want("shop@1 shop@2")
		shop.answersOnly("good")
		shop.logged("is not tried again by itself", "-u", "app-rollout-boot.service")
		// What is advised still shows how it failed.
		look := regexp.MustCompile(`journalctl --since=@\d+ --until=@\d+ -u shop@\d+\.service`).FindString(shop.Must("app-rollout", "check", "shop"))
		if look == "" || !strings.Contains(shop.Sh(look), "exiting after a while, as asked") {
			t.Errorf("%q does not show why it failed", look)
		}
	})
}

// failsInOneLine writes the .env and rolls it out. The rollout must fail, and exactly
// one line says why, which instance failed, where to look, and what still serves.
func (a *app) failsInOneLine(what, why string, lines ...string) {
	a.t.Helper()
	r := a.fails(what, why, lines...)
	said := r.Out + "\n" + r.Err
	found := 0
	for line := range strings.Lines(said) {
		if !strings.Contains(line, why) {
			continue
		}
		found++
		for _, part := range []string{"shop@", "journalctl -b -u shop@", "generation 1 still serves"} {
			if !strings.Contains(line, part) {
				a.t.Errorf("%s: the line does not say %q: %s", what, part, line)
			}
		}
	}
	if found != 1 {
		a.t.Errorf("%s: %d lines say %q:\n%s", what, found, why, said)
	}
}
