//go:build story

package test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestSeveralApps rolls apps out in parallel. One that fails and one that is slow
// neither stop nor delay the others.
func TestSeveralApps(t *testing.T) {
	t.Parallel()
	shop := newShop(t)
	for name, lines := range map[string][]string{
		"alpha": {"PORT=8081"},
		"bad":   {"PORT=8082", "EXIT_AT_START=4"},
		"slow":  {"PORT=8083", "SYSTEMD_CLUSTER_READY_SEC=600", slow},
		"zeta":  {"PORT=8084", "SYSTEMD_CLUSTER_MODE=0"},
	} {
		shop.other(t, name).write(lines...)
	}
	shop.Write("/etc/app-rollout/Wrong Name.env", env(), 0o644)
	shop.Write("/etc/app-rollout/broken.env", "SYSTEMD_EXEC_START=run me\n", 0o644)
	shop.Write("/etc/app-rollout/old.env.off", env(), 0o644)
	shop.Must("systemctl", "start", "--no-block", "app-rollout.service")
	shop.Wait("alpha and zeta", 2*time.Minute, func() bool {
		return shop.Exists("/var/lib/app-rollout/alpha/current") && shop.Exists("/var/lib/app-rollout/zeta/current")
	})
	if got := shop.Property("app-rollout.service", "ActiveState"); got != "activating" {
		t.Fatalf("the run is %s while the slow app starts", got)
	}
	shop.Must("touch", "/srv/go")
	shop.Wait("the run to end", 90*time.Second, func() bool { return shop.Property("app-rollout.service", "ActiveState") == "failed" })
	if got := shop.Property("app-rollout.service", "ExecMainStatus"); got != "1" {
		t.Errorf("status %s", got)
	}
	shop.other(t, "alpha").want("alpha@1 alpha@2")
	shop.other(t, "slow").want("slow@1 slow@2")
	shop.other(t, "zeta").want("zeta")
	shop.other(t, "bad").want("")
	shop.other(t, "old").want("")
	log := shop.journal("-p", "err", "APP_ROLLOUT_SERVICE=app-rollout.service")
	at := -1
	for _, line := range []string{"/etc/app-rollout/Wrong Name.env", "bad: bad@", "broken: /etc/app-rollout/broken.env:1: SYSTEMD_EXEC_START"} {
		next := strings.Index(log, line)
		if next <= at {
			t.Errorf("%q is not told, or not in the order of names:\n%s", line, log)
		}
		at = next
	}

	// A run stops the apps that no longer have an .env, and no others. A link that
	// leads nowhere is an error.
	shop.Sh("cd /etc/app-rollout; rm 'Wrong Name.env' bad.env broken.env; mv slow.env slow.env.off; ln -sf /srv/none zeta.env")
	if r := run(shop); r.Code != 1 || !strings.Contains(r.Out+r.Err, "zeta") {
		t.Errorf("status %d: %s%s", r.Code, r.Out, r.Err)
	}
	shop.other(t, "slow").want("")
	shop.other(t, "zeta").want("zeta")
	shop.other(t, "alpha").want("alpha@3 alpha@4")
}

// TestScalingUnderLoad changes the number of instances. Only the difference is
// started or stopped, and nothing is lost.
func TestScalingUnderLoad(t *testing.T) {
	t.Parallel()
	shop := newShop(t)
	shop.deploy()
	pid := shop.Property("shop@1.service", "MainPID")
	client := shop.busy()
	for _, c := range []struct{ nodes, units string }{
		{"4", "shop@1 shop@2 shop@3 shop@4"},
		{"1", "shop@1"},
		{"auto", ""},
	} {
		shop.deploy("SYSTEMD_CLUSTER_NODES=" + c.nodes)
		if c.nodes == "auto" {
			if got, cpus := len(strings.Fields(shop.instances())), shop.Sh("nproc"); cpus != fmt.Sprint(got) {
				t.Errorf("auto: %d instances on %s CPUs", got, cpus)
			}
		} else {
			shop.want(c.units)
		}
		if now := shop.Property("shop@1.service", "MainPID"); now != pid {
			t.Errorf("with %s nodes shop@1 is another process: %s, was %s", c.nodes, now, pid)
		}
	}
	nothingLost(t, client.Stop())
}

// TestModes: in mode 0 the service is restarted in place, and the old one comes
// back if the new one is bad. A change between the modes loses nothing.
func TestModes(t *testing.T) {
	t.Parallel()
	shop := newShop(t)
	shop.deploy("SYSTEMD_CLUSTER_MODE=0", "GENERATION=g1")
	shop.want("shop")
	shop.deploy("SYSTEMD_CLUSTER_MODE=0", "GENERATION=g2")
	shop.answersOnly("g2")

	for why, lines := range map[string][]string{
		"exited with status 1":          {"EXIT_AT_START=1"},
		"answers GET / with status 500": {"STATUS=500", "SYSTEMD_CLUSTER_HEALTH_PATH=/", "SYSTEMD_CLUSTER_READY_SEC=2"},
	} {
		shop.fails("a bad service", why, append(lines, "SYSTEMD_CLUSTER_MODE=0", "GENERATION=g3")...)
		shop.want("shop")
		shop.answersOnly("g2")
	}
	if files := shop.Sh(shop.litter()); files != "" {
		t.Errorf("left behind: %s", files)
	}

	client := shop.busy()
	shop.deploy("GENERATION=g4")
	shop.want("shop@1 shop@2")
	shop.deploy("SYSTEMD_CLUSTER_MODE=0", "GENERATION=g5")
	shop.want("shop")
	nothingLost(t, client.Stop())
	shop.answersOnly("g5")
	shop.Reboot()
	shop.want("shop")
}
