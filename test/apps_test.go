//go:build story

package test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"app-rollout/test/load"
	"app-rollout/test/machine"
)

// TestSeveralApps: apps roll out side by side; one that fails and one that is
// slow neither stop nor delay the others.
func TestSeveralApps(t *testing.T) {
	t.Parallel()
	m := machine.Boot(t, machine.Options{Install: true, Layers: []string{machine.Apps(t)}})
	for name, lines := range map[string][]string{
		"alpha": {"PORT=8081"},
		"bad":   {"PORT=8082", "EXIT_AT_START=4"},
		"slow":  {"PORT=8083", "START_DELAY=30s"},
		"zeta":  {"PORT=8084", "SYSTEMD_CLUSTER_MODE=0"},
	} {
		m.Write("/etc/app-rollout/"+name+".env", shop(lines...), 0o644)
	}
	m.Write("/etc/app-rollout/Wrong Name.env", shop(), 0o644)
	m.Write("/etc/app-rollout/broken.env", "SYSTEMD_EXEC_START=run me\n", 0o644)
	m.Write("/etc/app-rollout/old.env.off", shop(), 0o644)
	m.Must("systemctl", "start", "--no-block", "app-rollout.service")
	m.Wait("alpha and zeta", 20*time.Second, func() bool {
		return m.Exists("/var/lib/app-rollout/alpha/current") && m.Exists("/var/lib/app-rollout/zeta/current")
	})
	if got := m.Property("app-rollout.service", "ActiveState"); got != "activating" {
		t.Fatalf("the run is %s while the slow app starts", got)
	}
	m.Wait("the run to end", 90*time.Second, func() bool { return m.Property("app-rollout.service", "ActiveState") == "failed" })
	if got := m.Property("app-rollout.service", "ExecMainStatus"); got != "1" {
		t.Errorf("status %s", got)
	}
	want(t, m, "alpha", "alpha@1 alpha@2")
	want(t, m, "slow", "slow@1 slow@2")
	want(t, m, "zeta", "zeta")
	want(t, m, "bad", "")
	want(t, m, "old", "")
	log := m.Sh("journalctl -b -u app-rollout.service -p err -o cat _COMM=rollout-helper")
	at := -1
	for _, line := range []string{"/etc/app-rollout/Wrong Name.env", "bad: bad@", "broken: /etc/app-rollout/broken.env:1: SYSTEMD_EXEC_START"} {
		next := strings.Index(log, line)
		if next <= at {
			t.Errorf("%q is not told, or not in the order of names:\n%s", line, log)
		}
		at = next
	}

	// Apps that no longer have an .env are stopped, others are left alone; a
	// link that leads nowhere is an error.
	m.Sh("cd /etc/app-rollout; rm 'Wrong Name.env' bad.env broken.env; mv slow.env slow.env.off; ln -sf /srv/none zeta.env")
	if r := run(m); r.Code != 1 || !strings.Contains(r.Out+r.Err, "zeta") {
		t.Errorf("status %d: %s%s", r.Code, r.Out, r.Err)
	}
	want(t, m, "slow", "")
	want(t, m, "zeta", "zeta")
	want(t, m, "alpha", "alpha@3 alpha@4")
}

// TestScalingUnderLoad: only the difference is started or stopped, and nothing
// is lost either way.
func TestScalingUnderLoad(t *testing.T) {
	t.Parallel()
	m := machine.Boot(t, machine.Options{Install: true, Layers: []string{machine.Apps(t)}})
	m.Write("/etc/app-rollout/shop.env", shop(), 0o644)
	deploys(t, m, "shop")
	pid := m.Property("shop@1.service", "MainPID")
	client := m.Load(load.Options{Addr: "127.0.0.1:8080", Workers: 8, Pause: 2 * time.Millisecond})
	for _, c := range []struct{ nodes, units string }{
		{"4", "shop@1 shop@2 shop@3 shop@4"},
		{"1", "shop@1"},
		{"auto", ""},
	} {
		m.Write("/etc/app-rollout/shop.env", shop("SYSTEMD_CLUSTER_NODES="+c.nodes), 0o644)
		deploys(t, m, "shop")
		if c.nodes == "auto" {
			if got, cpus := len(strings.Fields(instances(m, "shop"))), m.Sh("nproc"); cpus != fmt.Sprint(got) {
				t.Errorf("auto: %d instances on %s CPUs", got, cpus)
			}
		} else {
			want(t, m, "shop", c.units)
		}
		if now := m.Property("shop@1.service", "MainPID"); now != pid {
			t.Errorf("with %s nodes shop@1 is another process: %s, was %s", c.nodes, now, pid)
		}
	}
	nothingLost(t, client.Stop())
}

// TestModes: one service is restarted in place and comes back when the new one
// is bad; a change between the modes loses nothing.
func TestModes(t *testing.T) {
	t.Parallel()
	m := machine.Boot(t, machine.Options{Install: true, Layers: []string{machine.Apps(t)}})
	m.Write("/etc/app-rollout/shop.env", shop("SYSTEMD_CLUSTER_MODE=0", "GENERATION=g1"), 0o644)
	deploys(t, m, "shop")
	want(t, m, "shop", "shop")
	m.Write("/etc/app-rollout/shop.env", shop("SYSTEMD_CLUSTER_MODE=0", "GENERATION=g2"), 0o644)
	deploys(t, m, "shop")
	answersOnly(t, m, "g2")

	for why, lines := range map[string][]string{
		"exited with status 1":          {"EXIT_AT_START=1"},
		"answers GET / with status 500": {"STATUS=500", "SYSTEMD_CLUSTER_HEALTH_PATH=/", "SYSTEMD_CLUSTER_READY_SEC=2"},
	} {
		m.Write("/etc/app-rollout/shop.env", shop(append(lines, "SYSTEMD_CLUSTER_MODE=0", "GENERATION=g3")...), 0o644)
		if r := run(m, "shop"); r.Code != 1 || !strings.Contains(r.Out+r.Err, why) {
			t.Errorf("status %d, want %q: %s%s", r.Code, why, r.Out, r.Err)
		}
		want(t, m, "shop", "shop")
		answersOnly(t, m, "g2")
	}
	if files := m.Sh(litter); files != "" {
		t.Errorf("left behind: %s", files)
	}

	client := m.Load(load.Options{Addr: "127.0.0.1:8080", Workers: 8, Pause: 2 * time.Millisecond})
	m.Write("/etc/app-rollout/shop.env", shop("GENERATION=g4"), 0o644)
	deploys(t, m, "shop")
	want(t, m, "shop", "shop@1 shop@2")
	m.Write("/etc/app-rollout/shop.env", shop("SYSTEMD_CLUSTER_MODE=0", "GENERATION=g5"), 0o644)
	deploys(t, m, "shop")
	want(t, m, "shop", "shop")
	nothingLost(t, client.Stop())
	answersOnly(t, m, "g5")
	m.Reboot()
	want(t, m, "shop", "shop")
}
