//go:build story

package test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"app-rollout/test/load"
	"app-rollout/test/machine"
)

// TestFailedRolloutChangesNothing: whatever is wrong with a new generation, the
// old one is the same afterwards: its processes, its settings after a crash,
// after a daemon-reload and after a reboot. The clients notice nothing.
func TestFailedRolloutChangesNothing(t *testing.T) {
	for _, release := range []string{"bookworm", "trixie"} {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			m := machine.Boot(t, machine.Options{Release: release, Install: true, Layers: []string{machine.Apps(t)}})
			m.Write("/etc/app-rollout/shop.env", shop("GENERATION=good"), 0o644)
			deploys(t, m, "shop")
			want(t, m, "shop", "shop@1 shop@2")
			pids := func() string {
				return m.Property("shop@1.service", "MainPID") + " " + m.Property("shop@2.service", "MainPID")
			}
			before := pids()

			client := m.Load(load.Options{Addr: "127.0.0.1:8080", Workers: 4, Pause: 5 * time.Millisecond})
			for _, c := range []struct {
				name string
				env  []string
				why  string // what the one line says
			}{
				{"exits", []string{"EXIT_AT_START=3"}, "exited with status 3"},
				{"never listens", []string{"NO_LISTEN=1"}, "does not listen on 127.0.0.1:8080"},
				{"listens elsewhere", []string{"LISTEN=127.0.0.1:9090"}, "does not listen on 127.0.0.1:8080"},
				{"listens beside", []string{"LISTEN=0.0.0.0:8080"}, "listens on [::]:8080, but the running generation on 127.0.0.1:8080"},
				{"misses READY=1", []string{"SYSTEMD_TYPE=notify"}, "was still starting after 5 s"},
				{"answers 500", []string{"SYSTEMD_CLUSTER_HEALTH_PATH=/health", "HEALTH=500"}, "answers GET /health with status 500"},
				{"hangs", []string{"SYSTEMD_CLUSTER_HEALTH_PATH=/", "HANG=1"}, "does not answer GET /"},
			} {
				m.Write("/etc/app-rollout/shop.env", shop(append(c.env, "GENERATION=bad", "SYSTEMD_CLUSTER_READY_SEC=5")...), 0o644)
				r := run(m, "shop")
				said := r.Out + "\n" + r.Err
				if r.Code != 1 {
					t.Errorf("%s: status %d\n%s", c.name, r.Code, said)
				}
				lines := 0
				for _, line := range strings.Split(said, "\n") {
					if strings.Contains(line, c.why) {
						lines++
						for _, part := range []string{"shop@", "journalctl -b -u shop@", "generation 1 still serves"} {
							if !strings.Contains(line, part) {
								t.Errorf("%s: the line does not say %q: %s", c.name, part, line)
							}
						}
					}
				}
				if lines != 1 {
					t.Errorf("%s: %d lines say %q:\n%s", c.name, lines, c.why, said)
				}
				want(t, m, "shop", "shop@1 shop@2")
				if now := pids(); now != before {
					t.Fatalf("%s: the old instances were %s and are %s", c.name, before, now)
				}
				nothingLeft(t, m, c.name)
			}
			nothingLost(t, client.Stop())

			// One that dies with requests in hand takes these along, and no more.
			const workers = 4
			client = m.Load(load.Options{Addr: "127.0.0.1:8080", Workers: workers, Pause: 5 * time.Millisecond})
			m.Write("/etc/app-rollout/shop.env", shop("EXIT_AFTER=5s", "SYSTEMD_CLUSTER_WATCH_SEC=30", "GENERATION=bad"), 0o644)
			why := regexp.MustCompile(`shop@\d+\.service exited with status 1 while it was watched`)
			if r := run(m, "shop"); r.Code != 1 || !why.MatchString(r.Err) {
				t.Errorf("dies while watched: status %d: %s%s", r.Code, r.Out, r.Err)
			}
			want(t, m, "shop", "shop@1 shop@2")
			nothingLeft(t, m, "dies while watched")
			if report := client.Stop(); report.Lost() > workers {
				t.Errorf("%d lost with %d clients: %v", report.Lost(), workers, report.Failures)
			}
			if now := pids(); now != before {
				t.Fatalf("the old instances were %s and are %s", before, now)
			}

			// After a crash, with and without a daemon-reload before it, an old
			// instance comes back as what it was.
			for _, reload := range []bool{false, true} {
				if reload {
					m.Must("systemctl", "daemon-reload")
				}
				pid := m.Property("shop@1.service", "MainPID")
				m.Must("kill", "-KILL", pid)
				m.Wait("shop@1 to come back", 20*time.Second, func() bool {
					now := m.Property("shop@1.service", "MainPID")
					return now != pid && now != "0" && m.Property("shop@1.service", "ActiveState") == "active"
				})
				answersOnly(t, m, "good")
			}

			// And after a reboot, which does not try the rejected one again.
			m.Reboot()
			m.Wait("the boot service", 30*time.Second, func() bool { return m.Property("app-rollout-boot.service", "SubState") == "exited" })
			want(t, m, "shop", "shop@1 shop@2")
			answersOnly(t, m, "good")
			if log := m.Sh("journalctl -b -u app-rollout-boot.service -o cat"); !strings.Contains(log, "is not tried again by itself") {
				t.Errorf("the boot does not say that it leaves the rejected one alone:\n%s", log)
			}
		})
	}
}

// litter prints the unit files of shop that no running unit of its current
// generation has, and the units that the boot's target would start though they
// are gone.
const litter = `
for file in $(ls -d /run/systemd/system/shop* 2>/dev/null || true); do
	generation=$(basename "$(readlink /var/lib/app-rollout/shop/current)")
	systemctl is-active -q "${file##*/}" && grep -qx "SourcePath=/var/lib/app-rollout/shop/generations/$generation/env" "$file" || echo "$file"
done
for unit in $(systemctl show --value -p Wants multi-user.target | tr ' ' '\n' | grep '^shop[@.]' || true); do
	systemctl is-active -q "$unit" || echo "$unit, which is wanted"
done
`

// nothingLeft fails the test if a failed rollout of shop has left anything.
func nothingLeft(t *testing.T, m *machine.Machine, of string) {
	t.Helper()
	if left := m.Sh("systemctl list-units --plain --no-legend --state=failed 'shop@*'" + litter); left != "" {
		t.Errorf("%s: left behind: %s", of, left)
	}
}

// answersOnly asks the app some times and fails the test unless every answer
// is of that generation.
func answersOnly(t *testing.T, m *machine.Machine, generation string) {
	t.Helper()
	client := m.Load(load.Options{Addr: "127.0.0.1:8080", Workers: 2})
	m.Wait("answers", 20*time.Second, func() bool { return client.Answered() >= 40 })
	for label := range client.Stop().Labels {
		if !strings.HasPrefix(label, generation+" ") {
			t.Errorf("an answer from %q, want only %q", label, generation)
		}
	}
}
